package kernel

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"crosstap/internal/netns"
)

// within runs f on a thread in the network namespace of a file; "" is the namespace of the process.
func within(path string, f func() error) error { return netns.Do(path, f) }

// ownSpace returns a new network namespace. It ends, with all in it, when the file is closed: also when the process dies.
func ownSpace() (file *os.File, err error) {
	err = netns.OnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("network namespace of our own: %w", err)
		}
		file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	return file, err
}
