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
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"crosstap/internal/frame"
	"crosstap/internal/netns"
)

// A keeper is a small process beside the one that has a pair. It does what the kernel cannot do when that one is killed or hangs: of a pair
// that fails open it lets go of a link that was held down; of one that fails closed it sets both links down, and takes the programs away.

// keeperOrder is the first line that a keeper reads. Lines that follow are "beat", "held SIDE" and "quit".
type keeperOrder struct {
	NetNS    string           `json:"netns"`
	Index    [2]int           `json:"index"`
	Name     [2]string        `json:"name"`
	Closed   bool             `json:"closed"`
	Lease    time.Duration    `json:"lease_ns"`
	Programs []ebpf.ProgramID `json:"programs"` // at the ways in
	Notes    [2]string        `json:"notes"`

	Owner string `json:"owner,omitempty"` // of filters: the keeper is a janitor, and lines that follow are files of network namespaces
}

// keeperPipe is the way to a keeper; nil tells nobody.
type keeperPipe struct {
	cmd *exec.Cmd
	mu  sync.Mutex
	w   io.WriteCloser
}

// startKeeper starts the keeper of a pair that was joined.
func startKeeper(x *Inline) (*keeperPipe, error) {
	o := keeperOrder{NetNS: x.cfg.NetNS, Closed: x.cfg.Closed, Lease: x.cfg.Lease}
	for i, s := range x.sides {
		o.Index[i], o.Name[i] = s.index, s.name
		o.Programs = append(o.Programs, s.at[frame.Ingress].id)
		o.Notes[i] = pairNote{peer: x.sides[1-i].name, promisc: s.promisc, lro: s.lro}.String()
	}
	line, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	k := &keeperPipe{}
	if k.cmd, k.w, err = startBeside(x.cfg.Keeper); err != nil {
		return nil, err
	}
	k.tell(string(line))
	return k, nil
}

// startBeside starts a process that is to outlive this one. It reads what is written to w; its end says that this one has ended.
func startBeside(command []string) (c *exec.Cmd, w io.WriteCloser, err error) {
	c = exec.Command(command[0], command[1:]...)
	c.Stderr = os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // what ends a terminal's processes does not end it
	if w, err = c.StdinPipe(); err != nil {
		return nil, nil, err
	}
	return c, w, c.Start()
}

// tell sends a line. A keeper that is gone does not matter: what it would do is in the programs, too, but for the links.
func (k *keeperPipe) tell(line string) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.w != nil {
		if _, err := io.WriteString(k.w, line+"\n"); err != nil {
			_ = k.w.Close()
			k.w = nil
		}
	}
}

// wait ends the way and waits for the keeper.
func (k *keeperPipe) wait() {
	if k == nil {
		return
	}
	k.mu.Lock()
	if k.w != nil {
		_ = k.w.Close()
		k.w = nil
	}
	k.mu.Unlock()
	_ = k.cmd.Wait()
}

// keeper is what a keeper knows.
type keeper struct {
	o     keeperOrder
	h     *netlink.Handle
	log   *slog.Logger
	held  int
	beat  time.Time
	acted bool // it has set links, for a process that hangs
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

// run obeys, and acts when nothing is heard for as long as the lease.
func (k *keeper) run(lines <-chan string) {
	silence := time.NewTimer(k.o.Lease)
	defer silence.Stop()
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				k.orphaned()
				return
			}
			if line == "quit" {
				return
			}
			silence.Reset(k.o.Lease)
			k.hear(line)
		case <-silence.C:
			k.hung()
		}
	}
}

// hear takes a line down.
func (k *keeper) hear(line string) {
	k.beat = time.Now()
	if _, err := fmt.Sscanf(line, "held %d", &k.held); err == nil {
		return
	}
	if !k.acted || strings.HasPrefix(line, "held") {
		return
	}
	k.acted = false
	k.log.Warn("inline: the process that watches the pair is there again", "a", k.o.Name[0], "b", k.o.Name[1])
	for i := range k.o.Index {
		if i != k.held {
			setLink(k.h, k.o.Index[i], true)
		}
	}
}

// hung acts for a process that lives and does nothing.
func (k *keeper) hung() {
	if k.acted || !k.mine() {
		return
	}
	k.acted = true
	k.log.Warn("inline: the process that watches the pair does not answer", "a", k.o.Name[0], "b", k.o.Name[1], "closed", k.o.Closed)
	k.act()
}

// orphaned acts for a process that was killed. A pair that fails closed may be taken over by another one until its lease ends.
func (k *keeper) orphaned() {
	if k.o.Closed {
		time.Sleep(time.Until(k.beat.Add(k.o.Lease)))
	}
	if !k.mine() {
		return
	}
	k.log.Warn("inline: the process that watched the pair is gone", "a", k.o.Name[0], "b", k.o.Name[1], "closed", k.o.Closed)
	k.act()
	if !k.o.Closed {
		return
	}
	for i, index := range k.o.Index {
		note, _ := parseNote(k.o.Notes[i])
		if err := clearSide(k.h, index, note); err != nil {
			k.log.Error("inline: not all was taken away", "interface", k.o.Name[i], "error", err)
		}
	}
}

// act sets the links.
func (k *keeper) act() {
	switch {
	case k.o.Closed:
		setLink(k.h, k.o.Index[0], false)
		setLink(k.h, k.o.Index[1], false)
	case k.held >= 0:
		setLink(k.h, k.o.Index[k.held], true)
	}
}

// mine reports whether the pair is still that of the process which the keeper is for.
func (k *keeper) mine() bool {
	for i, index := range k.o.Index {
		f, _, ok := pairAt(k.h, index, frame.Ingress)
		if !ok || ebpf.ProgramID(f.Id) != k.o.Programs[i] {
			return false
		}
	}
	return true
}
