package kernel

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// self tells this process in the name of a filter, for those that find it later; "" when it cannot be told.
func self() string { return owner(os.Getpid()) }

// owner tells a process: its number, when it was started, and the namespace in which it has that number. "" when there is none.
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
	if len(fields) < start {
		return ""
	}
	return fmt.Sprintf("pid=%d start=%s in=%s", pid, fields[start-1], space)
}

// orphan reports whether the process that the name of a filter tells is gone. Of another namespace of processes nothing is known; of a pair's filters neither: they
// are to outlive their process.
func orphan(name string) bool {
	var pid int
	var start, space string
	word, who, _ := strings.Cut(name, " ")
	if word != filterName && word != qdiscIsOurs {
		return false
	}
	if n, _ := fmt.Sscanf(who, "pid=%d start=%s in=%s", &pid, &start, &space); n != 3 {
		return false
	}
	here, err := os.Readlink("/proc/self/ns/pid")
	return err == nil && here == space && owner(pid) != who
}
