package kernel

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"crosstap/internal/frame"
)

// A keeper is a small process beside the one that has a pair. It does what the kernel cannot do when that one is killed or hangs: of a pair
// that fails open it lets go of a link that was held down; of one that fails closed it sets both links down, and takes the programs away. The
// lines that it is told are "beat", "held SIDE" and "quit".

// startKeeper starts the keeper of a pair that was joined, when there is to be one.
func (x *Inline) startKeeper() {
	x.keep.Store(nil)
	if len(x.cfg.Keeper) == 0 {
		return
	}
	o := order{NetNS: x.cfg.NetNS, Closed: x.cfg.Closed, Lease: x.cfg.Lease}
	for i, s := range x.sides {
		o.Index[i], o.Name[i] = s.index, s.name
		o.Programs = append(o.Programs, s.at[frame.Ingress].id)
		o.Notes[i] = pairNote{peer: x.sides[1-i].name, promisc: s.promisc, lro: s.lro}.String()
	}
	k, err := startCompanion(x.cfg.Keeper, o)
	x.keep.Store(k)
	if err != nil {
		x.log.Warn("no keeper: should this process be killed, links that are held down stay so", "error", err)
	}
}

// tellKeeper sends a line. A keeper that is gone does not matter: what it would do is in the programs, too, but for the links.
func (x *Inline) tellKeeper(line string) { _ = x.keep.Load().tell(line) }

// dismissKeeper ends the keeper.
func (x *Inline) dismissKeeper() {
	x.tellKeeper("quit")
	x.keep.Load().wait()
}

// keeper is what a keeper knows.
type keeper struct {
	o     order
	h     *netlink.Handle
	log   *slog.Logger
	held  int
	beat  time.Time
	acted bool // it has set links, for a process that hangs
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
