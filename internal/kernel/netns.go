package kernel

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"crosstap/internal/netns"
)

// within runs f on a thread in the network namespace of a file; "" is the namespace of the process.
func within(path string, f func() error) error { return netns.Do(path, f) }

// onThread runs f on a thread that ends with it, and with what it changed of itself.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		done <- f()
	}()
	return <-done
}

// ownSpace returns a new network namespace. It ends, with all in it, when the file is closed: also when the process dies.
func ownSpace() (file *os.File, err error) {
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("network namespace of our own: %w", err)
		}
		file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	return file, err
}
