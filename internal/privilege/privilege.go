// Package privilege bounds what a tap's process may take and do: a low priority, a control group of its own, and no rights but those that
// capturing needs.
package privilege

import (
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Config says what a process becomes.
type Config struct {
	User    string   // whom it becomes, "" for whom it is
	Folders []string // are made for that user
}

// needed are the capabilities that a tap has use for: packet sockets, promiscuous mode and network namespaces' interfaces, programs in the
// kernel, and setns(2) into other network namespaces.
var needed = []uint{unix.CAP_NET_RAW, unix.CAP_NET_ADMIN, unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYS_ADMIN}

// always are those that are kept; CAP_SYS_ADMIN, which only other namespaces need, goes with the user.
var always = needed[:4]

// doneEnv tells a process that it has been started with the rights that it is to have.
const doneEnv = "CROSSTAP_PRIVILEGES"

// Drop makes the folders, becomes the user, and gives up every right but those that capturing needs, for good. It does so by starting the
// program again in the same process, where it returns: all threads of it then have these rights and no others. A process that has no rights to
// give up stays as it is.
func Drop(c Config, log *slog.Logger) error {
	if os.Getenv(doneEnv) != "" {
		log.Info("privileges dropped", "uid", os.Geteuid(), "kept", os.Getenv(doneEnv))
		return os.Unsetenv(doneEnv)
	}
	uid, gid, err := ids(c.User)
	if err != nil {
		return err
	}
	for _, dir := range c.Folders {
		if err := own(dir, uid, gid); err != nil {
			return fmt.Errorf("privileges: %w", err)
		}
	}
	if os.Geteuid() != 0 {
		if c.User != "" && uid != os.Geteuid() {
			return fmt.Errorf("privileges: become %s: only root can: %w", c.User, os.ErrPermission)
		}
		return nil
	}
	keep := needed
	if uid > 0 {
		keep = always
	}
	if err := restart(uid, gid, keep); err != nil {
		return fmt.Errorf("privileges: %w", err)
	}
	return nil
}

// ids looks a user up; -1 for none.
func ids(name string) (uid, gid int, err error) {
	if name == "" {
		return -1, -1, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return 0, 0, fmt.Errorf("privileges: user %q: there is none: create one with \"useradd --system --no-create-home %s\"", name, name)
		}
	}
	uid, err = strconv.Atoi(u.Uid)
	if err == nil {
		gid, err = strconv.Atoi(u.Gid)
	}
	return uid, gid, err
}

// own makes a folder, and gives it with what is in it to a user.
func own(dir string, uid, gid int) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if uid < 0 || os.Geteuid() != 0 {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	})
}

// restart starts the program again from a thread that has become what the process shall be. It returns only when it cannot.
func restart(uid, gid int, keep []uint) error {
	runtime.LockOSThread() // what follows holds for this thread, and for the process that it becomes
	defer runtime.UnlockOSThread()
	mask, err := held(keep)
	if err != nil {
		return err
	}
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if mask&(1<<c) == 0 {
			_ = unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0) // a kernel need not know all of them
		}
	}
	if uid > 0 {
		if err := become(uid, gid); err != nil {
			return err
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	low, high := uint32(mask), uint32(mask>>32)
	data := [2]unix.CapUserData{{Effective: low, Permitted: low, Inheritable: low}, {Effective: high, Permitted: high, Inheritable: high}}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if mask&(1<<c) != 0 {
			if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, c, 0, 0); err != nil {
				return fmt.Errorf("ambient capability %d (Linux 4.3 or newer): %w", c, err)
			}
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	err = unix.Exec(self, os.Args, append(os.Environ(), doneEnv+"="+strings.Join(names(keep), ",")))
	return fmt.Errorf("start %s again: %w", self, err)
}

// held returns those of the capabilities that the process has.
func held(keep []uint) (mask uint64, err error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var has [2]unix.CapUserData
	if err := unix.Capget(&header, &has[0]); err != nil {
		return 0, fmt.Errorf("capabilities: %w", err)
	}
	for _, c := range keep {
		mask |= 1 << c
	}
	return mask & (uint64(has[0].Permitted) | uint64(has[1].Permitted)<<32), nil
}

// become changes the user of this thread, which keeps its capabilities.
func become(uid, gid int) error {
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	groups := []uint32{uint32(gid)}
	for _, call := range [][4]uintptr{
		{unix.SYS_SETGROUPS, 1, uintptr(unsafe.Pointer(&groups[0]))},
		{unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)},
		{unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)},
	} {
		if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
			return fmt.Errorf("become user %d, group %d: %w", uid, gid, errno)
		}
	}
	runtime.KeepAlive(groups)
	return nil
}

var capNames = map[uint]string{unix.CAP_NET_RAW: "CAP_NET_RAW", unix.CAP_NET_ADMIN: "CAP_NET_ADMIN", unix.CAP_BPF: "CAP_BPF", unix.CAP_PERFMON: "CAP_PERFMON", unix.CAP_SYS_ADMIN: "CAP_SYS_ADMIN"}

func names(caps []uint) (out []string) {
	for _, c := range caps {
		out = append(out, capNames[c])
	}
	return out
}
