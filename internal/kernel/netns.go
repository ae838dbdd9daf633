package kernel

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"crosstap/internal/netns"
)

// ownSpace returns a new network namespace. It ends, with all in it, when the file is closed: also when the process dies.
func ownSpace() (file *os.File, err error) {
	err = netns.OnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			if errors.Is(err, unix.EPERM) {
				return fmt.Errorf("%w: copies in the kernel need a network namespace of their own: CAP_SYS_ADMIN, or root", os.ErrPermission)
			}
			return fmt.Errorf("network namespace of our own: %w", err)
		}
		file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	return file, err
}
