package kernel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// janitor is a small process beside one that has filters of tc, and outlives it: it removes what that one has left when it was killed. It is
// started with the first filter, and told of each network namespace in which there are some.
type janitor struct {
	mu     sync.Mutex
	to     *companion // nil while there is none
	spaces []string
}

// ownJanitor is that of this process.
var ownJanitor janitor

// watch has a namespace looked after by the process that a command starts; without one nobody does before the next start.
func (j *janitor) watch(command []string, space string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(command) == 0 || self() == "" {
		return nil
	}
	if !slices.Contains(j.spaces, space) {
		j.spaces = append(j.spaces, space)
	}
	if j.to.tell(space) == nil {
		return nil
	}
	return j.start(command)
}

// start starts the process, or another one after it was killed.
func (j *janitor) start(command []string) (err error) {
	if j.to, err = startCompanion(command, order{Owner: self()}); err != nil {
		return fmt.Errorf("janitor: %w", err)
	}
	for _, space := range j.spaces {
		err = errors.Join(err, j.to.tell(space))
	}
	return err
}

// Times of a janitor that waits for a quiet moment.
const (
	cleanInterval = 200 * time.Millisecond
	cleanPatience = time.Minute
)

// clean is a janitor's whole life: it hears of namespaces until the other process has ended, and removes that one's filters from them. Where traffic passes it waits
// a while for a quiet moment, unless ctx ends.
func clean(ctx context.Context, owner string, spaces <-chan string, log *slog.Logger) error {
	var all []string // opened when it is over: a janitor keeps no namespace
	for path := range spaces {
		if !slices.Contains(all, path) {
			all = append(all, path)
		}
	}
	end := time.Now().Add(cleanPatience)
	for {
		err := cleanAll(owner, all, log)
		if !errors.Is(err, errBusy) || time.Now().After(end) {
			return err
		}
		leaveStderr()
		select {
		case <-time.After(cleanInterval):
		case <-ctx.Done():
			return err
		}
	}
}

// leaveStderr lets go of standard error, which is that of the other process: whoever reads it to its end is not to wait, too.
func leaveStderr() {
	if null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0); err == nil {
		_ = unix.Dup3(int(null.Fd()), unix.Stderr, 0)
		null.Close()
	}
}

// cleanAll removes the filters of a process from namespaces.
func cleanAll(owner string, spaces []string, log *slog.Logger) error {
	var errs []error
	for _, path := range spaces {
		gone, err := sweepIn(path, func(f *netlink.BpfFilter) bool { return ownerOf(f.Name) == owner })
		if !errors.Is(err, os.ErrNotExist) { // then nothing of it is left
			errs = append(errs, err)
		}
		for _, g := range gone {
			if !g.Ended {
				log.Info("removed what a process that was killed had left", "interface", g.Interface)
			}
		}
	}
	return errors.Join(errs...)
}

// ownerOf returns the process that the name of a tap's filter tells; "" of a pair's, which are to outlive theirs, and of others.
func ownerOf(name string) string {
	word, who, _ := strings.Cut(name, " ")
	if word != filterName && word != qdiscIsOurs && word != qdiscStays {
		return ""
	}
	return who
}
