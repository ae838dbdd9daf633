package testkit

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Drained returns when a collector has worked off what came to its UDP port: the kernel holds nothing for the port, and the process with
// its threads and children sleeps. The port is looked for in the process's own network namespace.
func Drained(t testing.TB, pid, port int) {
	t.Helper()
	quiet := 0
	for end := time.Now().Add(time.Minute); quiet < 3; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("process %d does not come to rest with what it got at port %d", pid, port)
		}
		if quiet++; waiting(pid, port) > 0 || Awake(pid) {
			quiet = 0
		}
	}
}

// waiting returns the bytes that the kernel holds for the sockets of a UDP port (rx_queue of proc_net_udp).
func waiting(pid, port int) (n uint64) {
	for _, name := range []string{"udp", "udp6"} {
		table, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, name))
		for line := range strings.Lines(string(table)) {
			col := strings.Fields(line)
			if len(col) < 5 || !strings.HasSuffix(col[1], fmt.Sprintf(":%04X", port)) {
				continue
			}
			_, queue, _ := strings.Cut(col[4], ":")
			held, _ := strconv.ParseUint(queue, 16, 64)
			n += held
		}
	}
	return n
}

// Awake reports whether a thread of the process, or of one that it started, does anything but sleep.
func Awake(pid int) bool {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	for _, task := range tasks {
		stat, _ := os.ReadFile(filepath.Join(task, "stat"))
		_, after, ok := strings.Cut(string(stat), ") ") // the name before may have anything in it but is the collector's
		if ok && !strings.HasPrefix(after, "S") {
			return true
		}
		children, _ := os.ReadFile(filepath.Join(task, "children"))
		for child := range strings.FieldsSeq(string(children)) {
			if n, err := strconv.Atoi(child); err == nil && Awake(n) {
				return true
			}
		}
	}
	return false
}
