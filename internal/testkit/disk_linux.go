package testkit

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// SmallDisk returns the folder of a file system of its own with so much room, as tmpfs(5) writes sizes. It is mounted nowhere: this process sees it through its
// descriptor.
func SmallDisk(t testing.TB, size string) string {
	t.Helper()
	Root(t)
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		Missing(t, "fsopen: "+err.Error())
	}
	defer unix.Close(fs)
	if err = unix.FsconfigSetString(fs, "size", size); err == nil {
		err = unix.FsconfigCreate(fs)
	}
	fd := -1
	if err == nil {
		fd, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)
}
