package netns

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lockLook is how often a lock is tried that somebody else has.
const lockLook = 200 * time.Microsecond

// Lock keeps others that lock the namespace waiting until unlock is called: those of this process, and of others, whatever they see of the
// host's files and processes. It ends with the process. Whoever may open the namespace's file can have it, too, so nobody waits for longer
// than patience: then unlock does nothing, and the work goes on as it would without a lock. The namespace of a nil Space is the present
// thread's.
func (s *Space) Lock(patience time.Duration) (unlock func()) {
	path := "/proc/thread-self/ns/net"
	if s != nil {
		path = fmt.Sprintf("/proc/self/fd/%d", s.file.Fd()) // opened once more, as a lock is of what was opened
	}
	f, err := os.Open(path)
	if err != nil {
		return func() {}
	}
	for end := time.Now().Add(patience); ; time.Sleep(lockLook) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return func() {
				_ = unix.Flock(int(f.Fd()), unix.LOCK_UN) // a process that is just being started has the file, too
				f.Close()
			}
		case errors.Is(err, unix.EINTR):
		case !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end):
			f.Close()
			return func() {}
		}
	}
}
