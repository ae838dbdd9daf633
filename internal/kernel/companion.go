package kernel

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"crosstap/internal/netns"
)

// order is the first line that a process beside another one reads: it makes it the keeper of a pair, or with an owner a janitor.
type order struct {
	NetNS    string           `json:"netns"`
	Index    [2]int           `json:"index"`
	Name     [2]string        `json:"name"`
	Closed   bool             `json:"closed"`
	Lease    time.Duration    `json:"lease_ns"`
	Programs []ebpf.ProgramID `json:"programs"` // at the ways in
	Notes    [2]string        `json:"notes"`

	Owner string `json:"owner,omitempty"` // of filters
}

// companion is the way to a process beside this one; nil leads to nobody. Safe for several goroutines.
type companion struct {
	w    io.WriteCloser // its end says that this process has ended
	over chan struct{}
}

// startCompanion starts a process that is to outlive this one, with its order.
func startCompanion(command []string, o order) (*companion, error) {
	line, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // what ends a terminal's processes does not end it
	c := &companion{over: make(chan struct{})}
	if c.w, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err = cmd.Start(); err != nil {
		return nil, err
	}
	go func() { defer close(c.over); _ = cmd.Wait() }()
	return c, c.tell(string(line))
}

// tell sends a line. An error says that nobody hears.
func (c *companion) tell(line string) error {
	if c == nil {
		return os.ErrClosed
	}
	_, err := io.WriteString(c.w, line+"\n")
	return err
}

// wait ends the way and waits for the process.
func (c *companion) wait() {
	if c == nil {
		return
	}
	_ = c.w.Close()
	<-c.over
}

// Keep is the whole life of a process beside another one: a keeper, which returns when the pair needs it no more, or a janitor, which returns when the other
// one has ended and nothing of it is left. It reads what it is told from in. The end of ctx has a janitor wait for nothing else; a keeper stays.
func Keep(ctx context.Context, in io.Reader, log *slog.Logger) error {
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(in); s.Scan(); {
			lines <- s.Text()
		}
	}()
	k := &keeper{held: -1, beat: time.Now(), log: log}
	if err := json.Unmarshal([]byte(<-lines), &k.o); err != nil {
		return fmt.Errorf("keeper: %w", err)
	}
	if k.o.Owner != "" {
		return clean(ctx, k.o.Owner, lines, log)
	}
	if k.o.Lease < MinPairLease || len(k.o.Programs) != 2 {
		return errors.New("keeper: no pair")
	}
	return netns.Do(k.o.NetNS, func() (err error) {
		if k.h, err = netlink.NewHandle(); err != nil {
			return fmt.Errorf("keeper: %w", err)
		}
		defer k.h.Close()
		k.run(lines)
		return nil
	})
}
