package privilege

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"crosstap/internal/tapspec"
	"crosstap/internal/testkit"
)

// TestMain is also the process that gives up its rights.
func TestMain(m *testing.M) {
	if user, ok := os.LookupEnv("CROSSTAP_TEST_USER"); ok {
		os.Exit(child(user))
	}
	os.Exit(m.Run())
}

// outcome is what the process tells of itself.
type outcome struct {
	UID       int
	Threads   map[string]int // capability sets in force, and how many threads have them
	Raw       string         // what opening a packet socket says
	Shadow    string         // what reading a file of root's says
	Nice      int
	StateMode string
	Groups    []string
}

func child(user string) int {
	log := slog.New(slog.DiscardHandler)
	l := &Limits{}
	if user != "" || os.Getenv(groupsEnv) != "" {
		l = Confine("crosstap-test", tapspec.Budget{}, log)
	}
	state := os.Getenv("CROSSTAP_TEST_STATE")
	if err := Drop(Config{User: user, Folders: []string{state}}, log); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	o := outcome{UID: os.Geteuid(), Threads: map[string]int{}, Groups: l.Groups()}
	tasks, _ := filepath.Glob("/proc/self/task/*/status")
	for _, name := range tasks {
		b, _ := os.ReadFile(name)
		for line := range strings.Lines(string(b)) {
			if caps, ok := strings.CutPrefix(line, "CapEff:"); ok {
				o.Threads[strings.TrimSpace(caps)]++
			}
		}
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	o.Raw = fmt.Sprint(err)
	_ = unix.Close(fd)
	_, err = os.ReadFile("/etc/shadow")
	o.Shadow = fmt.Sprint(err)
	prio, _ := unix.Getpriority(unix.PRIO_PROCESS, 0)
	o.Nice = 20 - prio // the system call's way to tell it
	o.StateMode = fmt.Sprint(os.WriteFile(filepath.Join(state, "x"), nil, 0o600))
	l.Leave()
	return map[bool]int{true: 0, false: 1}[json.NewEncoder(os.Stdout).Encode(o) == nil]
}

// TestDrop has a process give up its rights, as another user and as root: packet sockets stay possible, on all threads, and root's files do not.
func TestDrop(t *testing.T) {
	testkit.Root(t)
	f := func(user string, uid int, shadow bool) {
		t.Helper()
		dir, err := os.MkdirTemp("", "crosstap-privilege-") // t.TempDir is root's alone
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		self := filepath.Join(dir, "self")
		b, err := os.ReadFile(os.Args[0])
		if err == nil {
			err = os.WriteFile(self, b, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), "CROSSTAP_TEST_USER="+user, "CROSSTAP_TEST_STATE="+filepath.Join(dir, "state"))
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		var o outcome
		if err := json.Unmarshal(out, &o); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if o.UID != uid || len(o.Threads) != 1 || o.Raw != "<nil>" || o.StateMode != "<nil>" || user != "" && o.Nice != 19 {
			t.Errorf("%q: %+v", user, o)
		}
		if can := o.Shadow == "<nil>"; can != shadow {
			t.Errorf("%q reads root's files: %v", user, o.Shadow)
		}
		for _, g := range o.Groups {
			if procs, err := os.ReadFile(filepath.Join(g, "cgroup.procs")); len(procs) > 0 || err != nil {
				t.Errorf("%s: %q, %v: the process has not left it", g, procs, err)
			}
			_ = os.Remove(g)
		}
	}
	f("nobody", 65534, false)
	f("", 0, true)
	if err := Drop(Config{User: "no-such-user"}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "useradd") {
		t.Error(err)
	}
}

// TestGroups makes the files of both kinds of control groups.
func TestGroups(t *testing.T) {
	b := tapspec.Budget{CPU: 0.2, Memory: 100 << 20}
	root := t.TempDir()
	read := func(parts ...string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(append([]string{root}, parts...)...))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, d := range []string{"cpu", "memory"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var l Limits
	l.enter(root, "x", b) // the files of a folder that is none of the kernel's have to be made first
	if len(l.groups) != 0 || len(l.findings) == 0 {
		t.Errorf("%+v", l)
	}
	files := map[string][]string{"cpu/x": {"cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cgroup.procs"}, "memory/x": {"memory.limit_in_bytes", "cgroup.procs"}, "x": {"cpu.weight", "cpu.max", "memory.max", "cgroup.procs"}}
	for dir, names := range files {
		_ = os.MkdirAll(filepath.Join(root, dir), 0o755)
		for _, n := range names {
			if err := os.WriteFile(filepath.Join(root, dir, n), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	l = Limits{}
	l.enter(root, "x", b)
	if got := read("cpu/x/cpu.cfs_quota_us") + " " + read("memory/x/memory.limit_in_bytes"); got != "40000 209715200" || len(l.groups) != 2 {
		t.Errorf("v1: %s; %+v", got, l)
	}
	if err := os.WriteFile(filepath.Join(root, "cgroup.controllers"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	l = Limits{}
	l.enter(root, "x", b)
	if got := read("x/cpu.max") + " " + read("x/memory.max"); got != "40000 100000 209715200" || len(l.groups) != 1 {
		t.Errorf("v2: %s; %+v", got, l)
	}
}
