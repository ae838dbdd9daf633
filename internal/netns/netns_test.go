package netns_test

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"crosstap/internal/netns"
	"crosstap/internal/testkit"
)

// The main thread never leaves its namespace: /proc/self/net shows what it sees.
func TestOnThread(t *testing.T) {
	testkit.Root(t)
	at := func(path string) string {
		text, err := os.Readlink(path)
		if err != nil {
			t.Error(err)
		}
		return text
	}
	home := at("/proc/self/ns/net")
	errs := make(chan error)
	for range 300 {
		go func() {
			errs <- netns.OnThread(func() error {
				if unix.Gettid() == os.Getpid() {
					return errors.New("on the main thread")
				}
				if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
					return err
				}
				if at("/proc/thread-self/ns/net") == home {
					return errors.New("in the old namespace")
				}
				return nil
			})
		}()
	}
	for range 300 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got := at("/proc/self/ns/net"); got != home {
		t.Errorf("the process is in %s, was in %s", got, home)
	}
}
