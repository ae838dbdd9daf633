package privilege

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/tapspec"
)

// files makes a folder with files of these texts: what a kernel has in one of its groups.
func files(t *testing.T, dir string, texts map[string]string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func text(t *testing.T, parts ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestPlaced tells groups that somebody has chosen for a process from those in which everything is.
func TestPlaced(t *testing.T) {
	f := func(membership, controller, want string) {
		t.Helper()
		if got := placed(membership, controller); got != want {
			t.Errorf("%q, %q: %q, want %q", membership, controller, got, want)
		}
	}
	f("0::/\n", "", "")
	f("0::/user.slice/user-0.slice/session-3.scope\n", "", "")
	f("0::/system.slice/docker-0123.scope\n", "", "/system.slice/docker-0123.scope")
	f("0::/user.slices\n", "", "/user.slices")
	const hybrid = "4:memory:/kubepods/x\n2:cpu,cpuacct:/user.slice\n1:name=systemd:/user.slice/y\n0::/z:1\n"
	f(hybrid, "cpu", "")
	f(hybrid, "memory", "/kubepods/x")
	f(hybrid, "", "/z:1")
	f("", "cpu", "")
}

// TestGroups makes the files of both kinds of control groups.
func TestGroups(t *testing.T) {
	b := tapspec.Budget{CPU: 0.2, Memory: 100 << 20}
	f := func(root, membership string, groups []string, findings ...string) {
		t.Helper()
		var l Limits
		l.enter(groupsAt(root, membership), "x", b)
		for i := range groups {
			groups[i] = filepath.Join(root, groups[i])
		}
		if diff := cmp.Diff(groups, l.groups); diff != "" {
			t.Error(diff)
		}
		if len(findings) != len(l.findings) {
			t.Errorf("%q, want %q", l.findings, findings)
			return
		}
		for i, want := range findings {
			if !strings.Contains(l.findings[i], want) {
				t.Errorf("%q, want %q", l.findings[i], want)
			}
		}
	}
	empty := map[string]string{"cgroup.procs": ""}

	root := t.TempDir()
	f(root, "", nil, "neither v2 nor cpu and memory of v1")
	files(t, root+"/cpu", empty)
	files(t, root+"/cpu/x", map[string]string{"cgroup.procs": "", "cpu.shares": "", "cpu.cfs_quota_us": "", "cpu.cfs_period_us": ""})
	files(t, root+"/memory", empty)
	files(t, root+"/memory/x", map[string]string{"cgroup.procs": "", "memory.limit_in_bytes": ""})
	f(root, "3:memory:/box\n2:cpu,cpuacct:/\n", []string{"cpu/x"}, "memory: the process is in /box")
	f(root, "", []string{"cpu/x", "memory/x"})
	if got := text(t, root, "cpu/x/cpu.cfs_quota_us") + " " + text(t, root, "memory/x/memory.limit_in_bytes"); got != "40000 209715200" {
		t.Errorf("v1: %s", got)
	}

	root = files(t, t.TempDir(), map[string]string{"cgroup.procs": "", "cgroup.controllers": "cpuset cpu memory", "cgroup.subtree_control": "cpu memory"})
	files(t, root+"/x", map[string]string{"cgroup.procs": "", "cpu.weight": "", "cpu.max": "", "memory.max": ""})
	f(root, "0::/user.slice/user-0.slice\n", []string{"x"})
	if got := text(t, root, "x/cpu.max") + " " + text(t, root, "x/memory.max"); got != "40000 100000 209715200" {
		t.Errorf("v2: %s", got)
	}
	files(t, root, map[string]string{"cgroup.subtree_control": "cpu"})
	f(root, "", []string{"x"})
	if got := text(t, root, "cgroup.subtree_control"); got != "+memory" {
		t.Errorf("not passed on: %q", got)
	}
	files(t, root, map[string]string{"cgroup.controllers": "memory", "cgroup.subtree_control": "memory"})
	f(root, "", []string{"x"}, "no controller cpu there")
	f(root, "0::/box\n", nil, "the process is in /box")
}

// TestTry says what an agent would find.
func TestTry(t *testing.T) {
	f := func(root, membership, found, fault string) {
		t.Helper()
		got, err := try(groupsAt(root, membership))
		if got != found || (err == nil) != (fault == "") || err != nil && !strings.Contains(err.Error(), fault) {
			t.Errorf("%q, %v, want %q, %q", got, err, found, fault)
		}
	}
	root := files(t, t.TempDir(), map[string]string{"cgroup.procs": "1\n", "cgroup.controllers": "cpu memory", "cgroup.subtree_control": "memory"})
	f(root, "", "v2: "+root+" limits cpu and memory", "")
	f(root, "0::/box\n", "", "v2: cpu and memory: this process is in /box")
	files(t, root, map[string]string{"cgroup.type": "domain"})
	f(root, "", "", "v2: "+root+" limits memory; "+root+": no limit of cpu: it holds other processes")
	if left, _ := filepath.Glob(root + "/crosstap*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	root = t.TempDir()
	files(t, root+"/cpu", map[string]string{"cgroup.procs": ""})
	f(root, "", "v1: "+root+"/cpu limits cpu", "")
}

// TestSweep removes what is empty.
func TestSweep(t *testing.T) {
	root := t.TempDir()
	for _, c := range controllers {
		files(t, filepath.Join(root, c), map[string]string{"cgroup.procs": ""})
	}
	files(t, root+"/cpu/x", nil)
	for range 2 {
		if _, err := sweep(groupsAt(root, ""), "y"); err != nil {
			t.Error(err)
		}
	}
	gone, err := sweep(groupsAt(root, ""), "x")
	if diff := cmp.Diff([]string{root + "/cpu/x"}, gone); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

// TestCarried has the process that Drop starts know what the one before it found.
func TestCarried(t *testing.T) {
	t.Setenv(limitsEnv, `[["/g/x"],["priority: no"]]`)
	l := Confine("x", tapspec.Budget{}, slog.New(slog.DiscardHandler))
	if _, still := os.LookupEnv(limitsEnv); still || cmp.Diff([]string{"/g/x"}, l.groups) != "" || cmp.Diff([]string{"priority: no"}, l.Findings()) != "" {
		t.Errorf("%+v, %v", l, still)
	}
}
