//go:build linux

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"crosstap/internal/testkit"

	"github.com/google/go-cmp/cmp"
)

// TestDemoCheck is the promise of the product: what is shown is what was sent, to the last packet and byte, by the
// word of tcpdump and tshark, with tenants that use the same addresses and packets that three observers see.
func TestDemoCheck(t *testing.T) {
	testkit.Tool(t, "tcpdump")
	testkit.Tool(t, "tshark")
	testkit.Root(t)
	for _, offloads := range []string{"off", "on"} {
		t.Run("offloads="+offloads, func(t *testing.T) {
			r := start(t, nil, "demo", "--for", "9s", "--check", "--offloads", offloads, "--http", "127.0.0.1:0")
			r.exit(0)
			for _, want := range []string{"✓ lab: 2 hosts, 2 vSwitches, 2 tenants (VNI 5001, 5002), 6 VMs", "✓ first tenant pair stored: ",
				"Console  http://127.0.0.1:", "shown exactly as sent", "✓ ended: nothing is left"} {
				if !strings.Contains(r.text(), want) {
					t.Errorf("%q is missing:\n%s", want, r.text())
				}
			}
			empty(t, r.temp)
			t.Logf("\n%s", r.text())
		})
	}
}

// empty fails the test when something is left in a directory.
func empty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	must(t, err)
	if len(left) > 0 {
		t.Errorf("left in the temporary directory: %v", left)
	}
}

// TestDemoRootless runs the demo as a user without rights, in a user namespace.
func TestDemoRootless(t *testing.T) {
	testkit.Tool(t, "tcpdump")
	testkit.Tool(t, "tshark")
	testkit.Root(t) // to become nobody
	r := start(t, &syscall.Credential{Uid: nobody, Gid: nobody}, "demo", "--for", "6s", "--check", "--http", "127.0.0.1:0")
	r.exit(0)
	empty(t, r.temp)
}

// TestDemoDenied takes every right away: the demo must say what to do.
func TestDemoDenied(t *testing.T) {
	testkit.Root(t)
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "echo 0 > /proc/sys/user/max_user_namespaces && exec "+
		testkit.Tool(t, "setpriv")+" --bounding-set=-all --inh-caps=-all "+binary(t)+" demo --http 127.0.0.1:0")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
	}
	out, _ := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != 4 {
		t.Errorf("exit code %d, want 4", got)
	}
	for _, want := range []string{"sudo", "sysctl -w user.max_user_namespaces="} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the message must contain %q: %s", want, out)
		}
	}
}

func TestDemoUsage(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	full := t.TempDir()
	must(t, os.WriteFile(filepath.Join(full, "mine"), nil, 0o600))
	f := func(want string, args ...string) {
		t.Helper()
		r := start(t, nil, append([]string{"demo"}, args...)...)
		r.exit(2)
		if !strings.Contains(r.text(), want) {
			t.Errorf("the message must contain %q: %s", want, r.text())
		}
		empty(t, r.temp)
	}
	f("choose another address with --http", "--http", l.Addr().String())
	f("not empty", "--http", "127.0.0.1:0", "--data", full)
	f("expected on or off", "--offloads", "maybe")
	f("must not be negative", "--for", "-1s")
	t.Setenv("PATH", t.TempDir())
	f("apt-get install tcpdump tshark", "--check")
	if _, err := os.Stat(filepath.Join(full, "mine")); err != nil {
		t.Errorf("a file of the user is gone: %v", err)
	}
}

// remains is what a demo could leave behind on the machine.
type remains struct {
	Interfaces []string
	Bridges    []string
}

func look(t *testing.T) remains {
	t.Helper()
	var r remains
	interfaces, err := net.Interfaces()
	must(t, err)
	for _, i := range interfaces {
		r.Interfaces = append(r.Interfaces, i.Name)
	}
	r.Bridges, err = filepath.Glob("/sys/class/net/*/bridge")
	must(t, err)
	return r
}

// spacesOf returns the namespaces of processes.
func spacesOf(pids map[int]string) map[string]bool {
	found := map[string]bool{}
	for pid := range pids {
		links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/ns/*", pid))
		for _, l := range links {
			if to, err := os.Readlink(l); err == nil {
				found[to] = true
			}
		}
	}
	return found
}

// TestDemoEnds ends the demo in each way there is. Nothing may be left of it.
func TestDemoEnds(t *testing.T) {
	testkit.Root(t)
	f := func(name string, want int, end func(*run)) {
		t.Run(name, func(t *testing.T) {
			before := look(t)
			r := start(t, nil, "demo", "--http", "127.0.0.1:0")
			r.waitFor(`(?m)^Console  (http://\S+)`)
			members := family(r.cmd.Process.Pid)
			if len(members) < 12 { // itself, the lab init, serve, three taps, six VMs
				t.Errorf("%d processes: %v", len(members), members)
			}
			ours, machine := spacesOf(members), family(1)
			for s := range spacesOf(map[int]string{os.Getpid(): ""}) {
				delete(ours, s) // the demo itself is where we are
			}
			if len(ours) < 11 { // network namespaces of the collector, a host, the sensor and six VMs, the mounts, the processes
				t.Errorf("only %d namespaces of the lab: %v", len(ours), ours)
			}
			end(r)
			if want >= 0 {
				r.exit(want)
			}
			<-r.done
			for pid, line := range members {
				testkit.Eventually(t, fmt.Sprintf("the end of %d (%s)", pid, line), func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH })
			}
			testkit.Eventually(t, "the directory is removed", func() bool {
				left, err := os.ReadDir(r.temp)
				must(t, err)
				return len(left) == 0
			})
			for pid := range members {
				delete(machine, pid)
			}
			left := spacesOf(machine) // of processes that were there before; a later one may get a number again
			for s := range ours {
				if left[s] {
					t.Errorf("%s is still in use", s)
				}
			}
			mounts, err := os.ReadFile("/proc/self/mountinfo")
			must(t, err)
			for s := range ours {
				if strings.Contains(string(mounts), " "+s+" ") {
					t.Errorf("%s is mounted", s)
				}
			}
			if diff := cmp.Diff(before, look(t)); diff != "" {
				t.Error(diff)
			}
		})
	}
	f("interrupt", 0, func(r *run) { must(t, r.cmd.Process.Signal(os.Interrupt)) })
	f("terminate", 0, func(r *run) { must(t, r.cmd.Process.Signal(syscall.SIGTERM)) })
	f("interrupt twice", 130, func(r *run) {
		for { // signals that are pending count once
			_ = r.cmd.Process.Signal(os.Interrupt) // it may have ended in between
			select {
			case <-r.done:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	f("kill", -1, func(r *run) { must(t, r.cmd.Process.Kill()) })
	f("kill the lab init", 1, func(r *run) {
		must(t, syscall.Kill(memberOf(r.t, r.cmd.Process.Pid, "lab init"), syscall.SIGKILL))
	})
}

// TestDemoKeeps leaves a store that the ask commands read.
func TestDemoKeeps(t *testing.T) {
	testkit.Root(t)
	dir := filepath.Join(t.TempDir(), "kept")
	r := start(t, nil, "demo", "--http", "127.0.0.1:0", "--for", "4s", "--data", dir, "--keep")
	r.exit(0)
	out, err := exec.CommandContext(t.Context(), binary(t), "pairs", "--data", filepath.Join(dir, "store"), "-o", "csv", "--no-headers").CombinedOutput()
	must(t, err)
	if !slices.ContainsFunc(strings.Split(string(out), "\n"), func(line string) bool {
		return strings.Contains(line, "web-1") && strings.Contains(line, "db-1") && strings.Contains(line, "5001")
	}) {
		t.Errorf("the kept store does not have web-1 > db-1:\n%s", out)
	}
	out, err = exec.CommandContext(t.Context(), binary(t), "coverage", "--data", filepath.Join(dir, "store"), "-o", "csv", "--no-headers", "--columns", "host,vm,counted_octets").Output()
	must(t, err)
	var counted []string
	for line := range strings.Lines(string(out)) {
		if cells := strings.Split(strings.TrimSpace(line), ","); len(cells) == 3 && cells[2] != "" && cells[2] != "0" {
			counted = append(counted, cells[0]+" "+cells[1])
		}
	}
	slices.Sort(counted)
	if want := []string{"h1 db-1", "h1 web-1", "h1 web-2", "h2 client-1", "h2 client-2", "h2 db-2"}; !slices.Equal(counted, want) {
		t.Errorf("counted at %q, want %q:\n%s", counted, want, out)
	}
}
