//go:build linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"crosstap/internal/testkit"
	"crosstap/internal/testns"

	"golang.org/x/sys/unix"
)

// clsactTap starts a tap whose programs are filters of tc, and returns when they are there.
func clsactTap(t *testing.T, host *testns.Space) *run {
	t.Helper()
	r := start(t, nil, "tap", "-i", "p1", "--netns", host.Path(), "--path", "clsact", "--to", "null:")
	r.waitFor("program attached")
	if !hasClsact(t, host) {
		t.Fatalf("no filter of tc: %s", r.text())
	}
	return r
}

// hasClsact reports whether an interface of the host has a qdisc for filters.
func hasClsact(t *testing.T, host *testns.Space) bool {
	t.Helper()
	var out []byte
	must(t, host.Do(func() (err error) {
		out, err = exec.Command("tc", "qdisc", "show").Output()
		return err
	}))
	return strings.Contains(string(out), "clsact")
}

// children returns the processes that a process has started.
func children(t *testing.T, pid int) (all []int) {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	must(t, err)
	for _, name := range lists {
		b, _ := os.ReadFile(name)
		for _, word := range strings.Fields(string(b)) {
			n, err := strconv.Atoi(word)
			must(t, err)
			all = append(all, n)
		}
	}
	return all
}

// TestKilledClsact kills a tap whose programs the kernel would keep: the process beside it removes them without another start. What is left when both are killed the sweep
// removes that the package's unit calls.
func TestKilledClsact(t *testing.T) {
	testkit.Tool(t, "tc")
	host := testns.New(t)
	host.Sh("ip link add p1 type veth peer name p2; ip link set p1 up; ip link set p2 up")
	r := clsactTap(t, host)
	must(t, r.cmd.Process.Kill())
	for end := time.Now().Add(patience); hasClsact(t, host); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("filters of a killed tap stay: %s", r.text())
		}
	}
	r = clsactTap(t, host)
	pid := r.cmd.Process.Pid
	beside := children(t, pid)
	if len(beside) != 1 {
		t.Fatalf("processes beside the tap: %v", beside)
	}
	must(t, unix.Kill(pid, unix.SIGSTOP)) // it starts no other one
	must(t, unix.Kill(beside[0], unix.SIGKILL))
	must(t, r.cmd.Process.Kill())
	<-r.done
	if !hasClsact(t, host) {
		t.Error("filters are gone though all was killed")
	}
	s := start(t, nil, "agent", "sweep", "--netns", host.Path())
	s.exit(0)
	if !strings.Contains(s.text(), "removed a program at p1") || hasClsact(t, host) {
		t.Errorf("clsact is there: %t; sweep: %s", hasClsact(t, host), s.text())
	}
}
