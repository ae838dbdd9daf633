package privilege

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"crosstap/internal/tapspec"
)

// Limits are the bounds that a process was put in.
type Limits struct {
	groups   []string // folders of control groups that were made
	findings []string
}

// groupsEnv tells the process that Drop starts which groups it is in.
const groupsEnv = "CROSSTAP_CGROUPS"

// lowest is the priority of whoever may wait. SCHED_IDLE and cpu.idle are lower still, and lose frames.
const lowest = 19

// cgroupRoot is where control groups are mounted.
const cgroupRoot = "/sys/fs/cgroup"

// Confine gives the process the lowest priority and, where that is allowed, a control group of its own with the limits of a budget: a last
// resort behind the governor, so that they are twice as wide. What is not possible is told by Findings and is no error. A service manager that has
// already made a group for the process is left to its own.
func Confine(name string, b tapspec.Budget, log *slog.Logger) *Limits {
	l := &Limits{}
	if b.Memory > 0 {
		debug.SetMemoryLimit(int64(b.Memory))
	}
	if text, ok := os.LookupEnv(groupsEnv); ok { // this is the process that Drop has started
		_ = os.Unsetenv(groupsEnv)
		if text != "" {
			l.groups = strings.Split(text, ":")
		}
		return l
	}
	if err := yield(); err != nil {
		l.findings = append(l.findings, fmt.Sprintf("priority: %v", err))
	}
	if os.Getenv("INVOCATION_ID") == "" && os.Geteuid() == 0 {
		l.enter(cgroupRoot, name, b)
	}
	_ = os.Setenv(groupsEnv, strings.Join(l.groups, ":"))
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

// Groups returns the folders of the control groups that the process is in.
func (l *Limits) Groups() []string { return slices.Clone(l.groups) }

// enter makes a group below root and moves the process there: one of the unified hierarchy (v2), or one for each controller (v1).
func (l *Limits) enter(root, name string, b tapspec.Budget) {
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		l.join(filepath.Join(root, name), unified(b))
		return
	}
	for controller, files := range divided(b) {
		if _, err := os.Stat(filepath.Join(root, controller)); err == nil {
			l.join(filepath.Join(root, controller, name), files)
		}
	}
}

// setting is one file of a group and what is written to it.
type setting struct{ file, value string }

// A tenth of what other groups have. With less, rings overflow on a host whose processors are all taken.
const (
	groupWeight = "10"
	groupShares = "100"
)

// slack is how much wider the group's limits are than the budget.
const slack = 2

const period = 100000 // microseconds

func quota(b tapspec.Budget) string {
	return strconv.Itoa(int(math.Max(1000, float64(b.CPU)*slack*period)))
}

// unified are the files of a group of cgroup v2.
func unified(b tapspec.Budget) (all []setting) {
	all = append(all, setting{"cpu.weight", groupWeight})
	if b.CPU > 0 {
		all = append(all, setting{"cpu.max", quota(b) + " " + strconv.Itoa(period)})
	}
	if b.Memory > 0 {
		all = append(all, setting{"memory.max", strconv.FormatInt(int64(b.Memory)*slack, 10)})
	}
	return all
}

// divided are the files of groups of cgroup v1, by controller.
func divided(b tapspec.Budget) map[string][]setting {
	all := map[string][]setting{"cpu": {{"cpu.shares", groupShares}}}
	if b.CPU > 0 {
		all["cpu"] = append(all["cpu"], setting{"cpu.cfs_period_us", strconv.Itoa(period)}, setting{"cpu.cfs_quota_us", quota(b)})
	}
	if b.Memory > 0 {
		all["memory"] = []setting{{"memory.limit_in_bytes", strconv.FormatInt(int64(b.Memory)*slack, 10)}}
	}
	return all
}

// join makes a group with its limits and moves the process into it. A group that a process which was killed has left is used again.
func (l *Limits) join(dir string, files []setting) {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		l.findings = append(l.findings, fmt.Sprintf("control group: %v", err))
		return
	}
	for _, f := range files {
		if err := write(filepath.Join(dir, f.file), f.value); err != nil {
			l.findings = append(l.findings, fmt.Sprintf("control group: %v", err))
		}
	}
	if err := write(filepath.Join(dir, "cgroup.procs"), strconv.Itoa(os.Getpid())); err != nil {
		l.findings = append(l.findings, fmt.Sprintf("control group: %v", err))
		_ = os.Remove(dir)
		return
	}
	l.groups = append(l.groups, dir)
}

// write writes to a file that is there.
func write(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// Leave moves the process out of its groups and removes them, as far as it still may: a process that has given up its rights leaves them
// empty, for the next one.
func (l *Limits) Leave() {
	for _, dir := range l.groups {
		if write(filepath.Join(filepath.Dir(dir), "cgroup.procs"), strconv.Itoa(os.Getpid())) == nil {
			_ = os.Remove(dir) // others may be in it
		}
	}
	l.groups = nil
}
