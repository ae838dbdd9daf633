package privilege

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"crosstap/internal/tapspec"
)

const (
	groupsFolder   = "/sys/fs/cgroup"    // where control groups are mounted
	membershipFile = "/proc/self/cgroup" // cgroups(7): the groups that the process is in
	serviceEnv     = "INVOCATION_ID"     // systemd's: it has made a group for the process
)

// controllers are those that a group of ours has limits of.
var controllers = []string{"cpu", "memory"}

// tree is one hierarchy of control groups: that of all controllers (v2), or that of one of them (v1).
type tree struct {
	root        string
	unified     bool
	controllers []string // that are ours to limit
	placed      string   // the group in it that others have put the process into, "" for none
}

// groupsAt returns the trees that are mounted in a folder, for a process with these lines of /proc/self/cgroup.
func groupsAt(folder, membership string) (all []tree) {
	if _, err := os.Stat(filepath.Join(folder, "cgroup.controllers")); err == nil {
		return []tree{{root: folder, unified: true, controllers: controllers, placed: placed(membership, "")}}
	}
	for _, c := range controllers {
		root := filepath.Join(folder, c)
		if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err == nil {
			all = append(all, tree{root: root, controllers: []string{c}, placed: placed(membership, c)})
		}
	}
	return all
}

// placed returns the group of a controller ("" for v2) that a process was put into on purpose: any but the topmost, and systemd's for whatever a person starts.
func placed(membership, controller string) string {
	for line := range strings.Lines(membership) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		list, path, _ := strings.Cut(rest, ":")
		if slices.Contains(strings.Split(list, ","), controller) && path != "/" && path != "/user.slice" && !strings.HasPrefix(path, "/user.slice/") {
			return path
		}
	}
	return ""
}

// enter makes a group in each tree, moves the process there, and sets its limits.
func (l *Limits) enter(all []tree, name string, b tapspec.Budget) {
	found := func(err error) { l.findings = append(l.findings, fmt.Sprintf("control group: %v", err)) }
	if len(all) == 0 {
		found(errNone)
	}
	for _, t := range all {
		dir, err := t.join(name)
		if err != nil {
			found(err)
			continue
		}
		l.groups = append(l.groups, dir)
		for _, c := range t.controllers {
			if err := t.limit(dir, c, b); err != nil {
				found(err)
			}
		}
	}
}

var errNone = fmt.Errorf("%s: neither v2 nor cpu and memory of v1 are mounted there: priority and governor alone bound the process", groupsFolder)

// join makes a group and moves the process into it. One that an earlier process has left is used again.
func (t tree) join(name string) (dir string, err error) {
	if t.placed != "" {
		return "", fmt.Errorf("%s: the process is in %s, which others have made: it stays there", strings.Join(t.controllers, " and "), t.placed)
	}
	dir = filepath.Join(t.root, name)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	if err := write(filepath.Join(dir, "cgroup.procs"), strconv.Itoa(os.Getpid())); err != nil {
		_ = os.Remove(dir)
		return "", err
	}
	return dir, nil
}

// limit sets what a budget has for one controller. The process is in the group already: groups that hold processes pass no controller on to those in them, and it
// may have been the only one.
func (t tree) limit(dir, controller string, b tapspec.Budget) error {
	if t.unified {
		if err := t.passOn(controller); err != nil {
			return err
		}
	}
	var errs []error
	for _, f := range settings(t.unified, controller, b) {
		errs = append(errs, write(filepath.Join(dir, f.file), f.value))
	}
	return errors.Join(errs...)
}

// passOn has groups in the root of a tree of v2 limited by a controller.
func (t tree) passOn(controller string) error {
	if slices.Contains(words(t.root, "cgroup.subtree_control"), controller) {
		return nil
	}
	if !slices.Contains(words(t.root, "cgroup.controllers"), controller) {
		return t.lacks(controller)
	}
	err := write(filepath.Join(t.root, "cgroup.subtree_control"), "+"+controller)
	if errors.Is(err, unix.EBUSY) {
		return t.crowded(controller)
	}
	return err
}

func (t tree) lacks(controller string) error {
	return fmt.Errorf("%s: no controller %s there: v1 has it, the kernel, or the group that this is inside", t.root, controller)
}

func (t tree) crowded(controller string) error {
	return fmt.Errorf("%s: no limit of %s: it holds other processes, and v2 has no limits below a group that does", t.root, controller)
}

// words returns those of a file of a group.
func words(dir, file string) []string {
	b, _ := os.ReadFile(filepath.Join(dir, file))
	return strings.Fields(string(b))
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

// settings are the files of a controller, of v2 or of v1.
func settings(unified bool, controller string, b tapspec.Budget) (all []setting) {
	quota := strconv.Itoa(int(math.Max(1000, float64(b.CPU)*slack*period)))
	memory := strconv.FormatInt(int64(b.Memory)*slack, 10)
	switch {
	case controller == "cpu" && unified:
		all = append(all, setting{"cpu.weight", groupWeight})
		if b.CPU > 0 {
			all = append(all, setting{"cpu.max", quota + " " + strconv.Itoa(period)})
		}
	case controller == "cpu":
		all = append(all, setting{"cpu.shares", groupShares})
		if b.CPU > 0 {
			all = append(all, setting{"cpu.cfs_period_us", strconv.Itoa(period)}, setting{"cpu.cfs_quota_us", quota})
		}
	case b.Memory > 0 && unified:
		all = append(all, setting{"memory.max", memory})
	case b.Memory > 0:
		all = append(all, setting{"memory.limit_in_bytes", memory})
	}
	return all
}

// Groups says what an agent that is started like this process finds on this host: the groups in which its processor time and memory get limits, or why they get none.
// It tries that with an empty group, and removes it.
func Groups() (found string, err error) {
	membership, _ := os.ReadFile(membershipFile)
	if os.Getenv(serviceEnv) != "" {
		return "the service manager's: " + strings.TrimSpace(string(membership)), nil
	}
	all := groupsAt(groupsFolder, string(membership))
	if len(all) == 0 {
		return "", errNone
	}
	return try(all)
}

func try(all []tree) (string, error) {
	var parts []string
	var errs []error
	for _, t := range all {
		can, err := t.try()
		if len(can) > 0 {
			parts = append(parts, fmt.Sprintf("%s limits %s", t.root, strings.Join(can, " and ")))
		}
		errs = append(errs, err)
	}
	version := "v1: "
	if all[0].unified {
		version = "v2: "
	}
	if err := errors.Join(errs...); err != nil {
		return "", fmt.Errorf("%s%s", version, strings.ReplaceAll(strings.Join(append(parts, err.Error()), "; "), "\n", "; "))
	}
	return version + strings.Join(parts, ", "), nil
}

// try makes a group and removes it; it returns the controllers that would limit it.
func (t tree) try() (can []string, err error) {
	if t.placed != "" {
		return nil, fmt.Errorf("%s: this process is in %s, which others have made: there an agent would stay", strings.Join(t.controllers, " and "), t.placed)
	}
	dir := filepath.Join(t.root, "crosstap-doctor-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	defer os.Remove(dir)
	var errs []error
	for _, c := range t.controllers {
		if err := t.would(c); err != nil {
			errs = append(errs, err)
			continue
		}
		can = append(can, c)
	}
	return can, errors.Join(errs...)
}

// would is what passOn would return, without its doing it: the root of all groups passes on what it has, others only while no process is in them.
func (t tree) would(controller string) error {
	switch {
	case !t.unified, slices.Contains(words(t.root, "cgroup.subtree_control"), controller):
		return nil
	case !slices.Contains(words(t.root, "cgroup.controllers"), controller):
		return t.lacks(controller)
	}
	_, err := os.Stat(filepath.Join(t.root, "cgroup.type")) // the root of all has none
	own := strconv.Itoa(os.Getpid())
	if err == nil && slices.ContainsFunc(words(t.root, "cgroup.procs"), func(pid string) bool { return pid != own }) {
		return t.crowded(controller)
	}
	return nil
}

// Sweep removes the groups of a name that processes have left, and returns their folders. Those in which a process is stay.
func Sweep(name string) (gone []string, err error) { return sweep(groupsAt(groupsFolder, ""), name) }

func sweep(all []tree, name string) (gone []string, err error) {
	var errs []error
	for _, t := range all {
		dir := filepath.Join(t.root, name)
		switch err := unix.Rmdir(dir); {
		case err == nil:
			gone = append(gone, dir)
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EBUSY):
			errs = append(errs, fmt.Errorf("control group: %w", &fs.PathError{Op: "rmdir", Path: dir, Err: err}))
		}
	}
	return gone, errors.Join(errs...)
}
