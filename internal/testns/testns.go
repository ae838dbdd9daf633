//go:build linux

// Package testns makes network namespaces for tests. They have no name, and end with the test.
package testns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/netns"
	"crosstap/internal/testkit"
)

// A Space is one network namespace.
type Space struct {
	tb   testing.TB
	file *os.File
}

// New makes a namespace with its loopback interface up. Without root the test is skipped.
func New(tb testing.TB) *Space {
	tb.Helper()
	testkit.Root(tb)
	testkit.Tool(tb, "ip")
	s := &Space{tb: tb}
	err := netns.OnThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		s.file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		testkit.Missing(tb, "no network namespace: "+err.Error())
	}
	tb.Cleanup(func() { s.file.Close() })
	s.Sh("ip link set lo up")
	return s
}

// Path names the namespace for this process and for commands that it starts.
func (s *Space) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), s.file.Fd()) }

// Do runs f on a thread inside the namespace; sockets that f opens stay in it, goroutines that it starts do not.
func (s *Space) Do(f func() error) error {
	return netns.OnThread(func() error {
		if err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter namespace: %w", err)
		}
		return f()
	})
}

// commandNotFound is the exit status of a shell that knows no command of a name (POSIX, XCU 2.8.2).
const commandNotFound = 127

// Sh runs shell commands inside the namespace; when one fails, so does the test, and one that is not installed skips it. NS is replaced
// in them by the path of peer, when there is one.
func (s *Space) Sh(script string, peer ...*Space) {
	s.tb.Helper()
	if len(peer) > 0 {
		script = strings.ReplaceAll(script, "NS", peer[0].Path())
	}
	err := s.Do(func() error {
		out, err := exec.Command("sh", "-ec", script).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", script, err, out)
		}
		return nil
	})
	if exit := new(exec.ExitError); errors.As(err, &exit) && exit.ExitCode() == commandNotFound {
		testkit.Missing(s.tb, err.Error())
	}
	if err != nil {
		s.tb.Fatal(err)
	}
}

// Up waits until the interfaces carry packets: a while after "ip link set up" the kernel still throws away what is sent.
func (s *Space) Up(names ...string) {
	s.tb.Helper()
	const look, most = 5 * time.Millisecond, 12_000
	for _, name := range names {
		for n := 0; ; n++ {
			var flags net.Flags
			err := s.Do(func() error {
				i, err := net.InterfaceByName(name)
				if err == nil {
					flags = i.Flags
				}
				return err
			})
			if err != nil || n == most {
				s.tb.Fatalf("interface %s does not come up: %v, %v", name, flags, err)
			}
			if flags&net.FlagRunning != 0 {
				break
			}
			time.Sleep(look)
		}
	}
}

// Reach returns when addresses answer: until then the system holds what is sent to them, and throws away what is too much.
func (s *Space) Reach(addrs ...string) {
	s.tb.Helper()
	for _, a := range addrs {
		s.Sh("ping -q -c1 -w60 -i0.2 " + a + " >/dev/null")
	}
}

// writers are the processes that write captures: their numbers by path.
var writers sync.Map

// Writes tells WaitStill which process writes a file.
func Writes(path string, pid int) { writers.Store(path, pid) }

// WaitStill returns when a file that another process writes has not grown for a while, in which the process slept when Writes has named it.
func WaitStill(path string) {
	const look, quiet, most = 50 * time.Millisecond, 8, 1200
	var last int64
	for still, n := 0, 0; still < quiet && n < most; n++ {
		time.Sleep(look)
		if pid, ok := writers.Load(path); ok && testkit.Awake(pid.(int)) { //nolint:forcetypeassert // of Writes
			still = 0
			continue
		}
		if st, err := os.Stat(path); err == nil && st.Size() != last {
			last, still = st.Size(), 0
			continue
		}
		still++
	}
}
