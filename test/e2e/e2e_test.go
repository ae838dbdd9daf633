//go:build linux

// Package e2e runs the real binary in real namespaces. Every test brings its own lab and leaves nothing behind.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"crosstap/internal/testkit"
)

// patience bounds every wait. It is generous: nothing here measures speed.
const patience = 2 * time.Minute

var built struct {
	sync.Once
	dir  string
	path string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// binary builds crosstap once, or copies the program that CROSSTAP_E2E_BIN names with its whole path, and returns its path. Every user may run it.
func binary(t *testing.T) string {
	t.Helper()
	built.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "crosstap-e2e-"); built.err != nil {
			return
		}
		if built.err = os.Chmod(built.dir, 0o755); built.err != nil {
			return
		}
		built.path = filepath.Join(built.dir, "crosstap")
		cmd := exec.Command("go", "build", "-o", built.path, "./cmd/crosstap")
		if ready := os.Getenv("CROSSTAP_E2E_BIN"); ready != "" {
			if _, built.err = os.Stat(ready); built.err != nil { // and "go test" knows what it has tested
				return
			}
			cmd = exec.Command("cp", ready, built.path)
		}
		cmd.Dir = testkit.ModuleDir(t)
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	if built.err != nil {
		t.Fatalf("build: %v", built.err)
	}
	return built.path
}

// A run is one started crosstap.
type run struct {
	t    *testing.T
	cmd  *exec.Cmd
	temp string // its temporary directory
	mu   sync.Mutex
	out  bytes.Buffer // guarded by mu: standard output and errors
	done chan struct{}
	err  error
}

// Write collects output.
func (r *run) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Write(b)
}

func (r *run) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.String()
}

// nobody is the user without any rights.
const nobody = 65534

// start starts crosstap with those arguments. credential nil stands for this user.
func start(t *testing.T, credential *syscall.Credential, args ...string) *run {
	t.Helper()
	return startFor(t, 3*patience, credential, args...)
}

// startFor is start for a process that may live longer.
func startFor(t *testing.T, life time.Duration, credential *syscall.Credential, args ...string) *run {
	t.Helper()
	r := &run{t: t, temp: t.TempDir(), done: make(chan struct{})}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), life)
	r.cmd = exec.CommandContext(ctx, binary(t), args...)
	r.cmd.Stdout, r.cmd.Stderr = r, r
	r.cmd.Env = append(os.Environ(), "TMPDIR="+r.temp, "HOME="+r.temp)
	r.cmd.Dir = r.temp
	if credential != nil {
		r.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
		for dir := r.temp; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
			must(t, os.Chmod(dir, 0o755))
		}
		must(t, os.Chown(r.temp, int(credential.Uid), int(credential.Gid)))
	}
	must(t, r.cmd.Start())
	go func() {
		r.err = r.cmd.Wait()
		close(r.done)
	}()
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		<-r.done
		cancel()
	})
	return r
}

// exit waits for the end and checks the exit code.
func (r *run) exit(want int) {
	r.t.Helper()
	<-r.done
	var failed *exec.ExitError
	code := 0
	if errors.As(r.err, &failed) {
		code = failed.ExitCode()
	} else if r.err != nil {
		r.t.Fatal(r.err)
	}
	if code != want {
		r.t.Errorf("exit code %d, want %d:\n%s", code, want, r.text())
	}
}

// waitFor waits until the output matches and returns the first group, or the match.
func (r *run) waitFor(pattern string) string {
	r.t.Helper()
	re := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if m := re.FindStringSubmatch(r.text()); m != nil {
			return m[len(m)-1]
		}
		select {
		case <-r.done:
			r.t.Fatalf("ended before it printed %q:\n%s", pattern, r.text())
		default:
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("did not print %q:\n%s", pattern, r.text())
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// printed returns what a command printed that is to end with an exit code. in is where it runs, as Space.Do; nil for here.
func printed(t *testing.T, code int, in func(func() error) error, c *exec.Cmd) string {
	t.Helper()
	var out []byte
	run := func() (err error) { out, err = c.CombinedOutput(); return err }
	if in == nil {
		in = func(f func() error) error { return f() }
	}
	var failed *exec.ExitError
	if err := in(run); err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	if got := c.ProcessState.ExitCode(); got != code {
		t.Fatalf("crosstap %s: exit code %d, want %d\n%s", strings.Join(c.Args[1:], " "), got, code, out)
	}
	return string(out)
}

// family returns a process and all below it, with their command lines; of process 1, all there are.
func family(root int) map[int]string {
	parents := map[int]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		words := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		parents[pid], _ = strconv.Atoi(words[1])
	}
	found := map[int]string{}
	for pid := range parents {
		for p := pid; p > 0; p = parents[p] {
			if p == root {
				b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
				found[pid] = strings.ReplaceAll(string(b), "\x00", " ")
				break
			}
		}
	}
	return found
}

// memberOf returns the only process below root whose command line contains the words.
func memberOf(t *testing.T, root int, words string) int {
	t.Helper()
	var found []int
	for pid, line := range family(root) {
		if strings.Contains(line, words) {
			found = append(found, pid)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d processes with %q: %v", len(found), words, family(root))
	}
	return found[0]
}
