package netns_test

import (
	"os/exec"
	"testing"
	"time"

	"crosstap/internal/netns"
	"crosstap/internal/testkit"
)

// A lock holds off those of the same namespace, in this process and in others, and ends with its process; other namespaces have their own.
func TestLock(t *testing.T) {
	testkit.Root(t)
	testkit.Tool(t, "flock")
	s, err := netns.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	free := func() bool {
		t.Helper()
		return exec.Command("flock", "--nonblock", "/proc/self/ns/net", "true").Run() == nil
	}
	unlock := s.Lock(time.Second)
	if free() {
		t.Error("another process has it, too")
	}
	began := time.Now()
	s.Lock(20 * time.Millisecond)()
	if waited := time.Since(began); waited < 20*time.Millisecond {
		t.Errorf("waited %v for a lock that is held", waited)
	}
	if exec.Command("unshare", "--net", "flock", "--nonblock", "/proc/self/ns/net", "true").Run() != nil {
		t.Error("another namespace has the same lock")
	}
	unlock()
	if !free() {
		t.Error("it was not let go")
	}
	c := exec.Command("flock", "--no-fork", "--exclusive", "/proc/self/ns/net", "sh", "-c", "echo x; exec sleep 60")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	had := make(chan func())
	go func() {
		var nobody *netns.Space
		had <- nobody.Lock(time.Minute)
	}()
	select {
	case <-had:
		t.Error("two have it")
	case <-time.After(20 * time.Millisecond):
	}
	_ = c.Process.Kill()
	_ = c.Wait()
	(<-had)()
}
