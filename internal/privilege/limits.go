package privilege

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"crosstap/internal/tapspec"
)

// Limits are the bounds that a process was put in.
type Limits struct {
	groups   []string // folders of control groups that were made
	findings []string
}

// limitsEnv tells the process that Drop starts which groups it is in, and what was found: two lists in JSON.
const limitsEnv = "CROSSTAP_LIMITS"

// lowest is the priority of whoever may wait. SCHED_IDLE and cpu.idle are lower still, and lose frames.
const lowest = 19

// Confine gives the process the lowest priority and, where that is allowed, a control group of its own with the limits of a budget: a last
// resort behind the governor, so that they are twice as wide. What is not possible is told by Findings and is no error. Where somebody else, such as a service
// manager, has made a group for the process, it stays there.
func Confine(name string, b tapspec.Budget, log *slog.Logger) *Limits {
	l := &Limits{}
	if b.Memory > 0 {
		debug.SetMemoryLimit(int64(b.Memory))
	}
	lists := []*[]string{&l.groups, &l.findings}
	if text, ok := os.LookupEnv(limitsEnv); ok { // this is the process that Drop has started
		_ = os.Unsetenv(limitsEnv)
		_ = json.Unmarshal([]byte(text), &lists)
		return l
	}
	if err := yield(); err != nil {
		l.findings = append(l.findings, fmt.Sprintf("priority: %v", err))
	}
	if os.Getenv(serviceEnv) == "" && os.Geteuid() == 0 {
		membership, _ := os.ReadFile(membershipFile)
		l.enter(groupsAt(groupsFolder, string(membership)), name, b)
	}
	text, _ := json.Marshal(lists)
	_ = os.Setenv(limitsEnv, string(text))
	for _, f := range l.findings {
		log.Info("limits", "finding", f)
	}
	return l
}

// yield gives all threads of the process the lowest priority; those that they start inherit it.
func yield() (err error) {
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, t := range tasks {
		if id, bad := strconv.Atoi(t.Name()); bad == nil {
			err = errors.Join(err, unix.Setpriority(unix.PRIO_PROCESS, id, lowest))
		}
	}
	return err
}

// Findings says what could not be bounded.
func (l *Limits) Findings() []string { return slices.Clone(l.findings) }

// write writes to a file that is there.
func write(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// Leave moves the process out of its groups and removes them, as far as it still may: one that has given up its rights may not remove folders from the root
// of a tree. Then they stay, empty, for the next one, or for Sweep.
func (l *Limits) Leave() {
	for _, dir := range l.groups {
		if write(filepath.Join(filepath.Dir(dir), "cgroup.procs"), strconv.Itoa(os.Getpid())) == nil {
			_ = os.Remove(dir) // others may be in it
		}
	}
	l.groups = nil
}
