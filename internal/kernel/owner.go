package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// self tells this process in the name of a filter, for those that find it later; "" when it cannot be told.
func self() string { return owner(os.Getpid()) }

// owner tells a process: its number, when it was started, and the namespace in which it has that number. "" when there is none, or it has ended and nobody
// has asked for its end yet.
func owner(pid int) string {
	space, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	const start = 20 // of the fields behind the name, which may have anything in it (proc_pid_stat(5))
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < start || fields[0] == "Z" || fields[0] == "X" {
		return ""
	}
	return fmt.Sprintf("pid=%d start=%s in=%s", pid, fields[start-1], space)
}

// orphan reports whether the process that the name of a filter tells is gone. Of another namespace of processes nothing is known; of a pair's filters neither: they
// are to outlive their process.
func orphan(name string) bool {
	var pid int
	var start, space string
	who := ownerOf(name)
	if n, _ := fmt.Sscanf(who, "pid=%d start=%s in=%s", &pid, &start, &space); n != 3 {
		return false
	}
	here, err := os.Readlink("/proc/self/ns/pid")
	if err != nil || here != space {
		return false
	}
	now := owner(pid)
	return now != who && (now != "" || !hidden(pid))
}

// hidden reports whether there is a process that /proc does not show to this user (hidepid).
func hidden(pid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	return err != nil && !errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}
