package lab

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Memory returns the resident memory in bytes of the caller and all processes of the lab, pages that several
// share counted once (the sum of Pss in /proc/PID/smaps_rollup). The tcpdumps of the truth are left out: who
// only looks at the lab has none.
func (l *Lab) Memory() uint64 {
	total := resident(os.Getpid())
	for _, pid := range descendants(l.pid) {
		if !isTruth(pid) {
			total += resident(pid)
		}
	}
	return total
}

// isTruth reports whether a process is one of the truth's.
func isTruth(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return err == nil && strings.TrimSpace(string(b)) == "tcpdump"
}

// resident returns a process's proportional set size in bytes, 0 when it is gone.
func resident(pid int) uint64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			kb, _ := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kb << 10
		}
	}
	return 0
}

// descendants returns a process and all below it.
func descendants(root int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	children := map[int][]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		var state string
		var parent int
		rest := stat[bytes.LastIndexByte(stat, ')')+1:] // the command name may contain anything
		if _, err := fmt.Sscan(string(rest), &state, &parent); err == nil {
			children[parent] = append(children[parent], pid)
		}
	}
	all := []int{root}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}
