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
	Findings  []string
}

func child(user string) int {
	log := slog.New(slog.DiscardHandler)
	l := &Limits{}
	if user != "" || os.Getenv(limitsEnv) != "" {
		l = Confine("crosstap-test", tapspec.Budget{}, log)
	}
	state := os.Getenv("CROSSTAP_TEST_STATE")
	if err := Drop(Config{User: user, Folders: []string{state}}, log); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	o := outcome{UID: os.Geteuid(), Threads: map[string]int{}, Groups: l.groups, Findings: l.Findings()}
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
