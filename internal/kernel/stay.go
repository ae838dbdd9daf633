package kernel

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
)

// qdiscStays begins the name of a filter that only says that the qdisc is ours and goes in a quiet moment. Behind it stands the process.
const qdiscStays = filterName + ":r"

// A filter of the control line's mirrors is a classic program, which has no name: by this class ("ctap") it says that its clsact qdisc is
// ours, and for this protocol it does nothing but keep the qdisc.
const (
	QdiscClass   = 0x63746170
	KeepProtocol = unix.ETH_P_802_EX1 // of experiments: frames of all others pass the filter without a program being run
)

// ClaimsQdisc reports whether a filter of cls_bpf, by its name and class, says that its clsact qdisc is ours: it was made by a tap or by a
// mirror of a control line, and goes with the last filter that says so. Whoever puts a filter beside one that says so has to say so, too.
func ClaimsQdisc(name string, class uint32) bool { return class == QdiscClass || qdiscOf(name) }

// KeepsQdisc reports whether a filter only keeps a qdisc of ours that nobody needs, for a while.
func KeepsQdisc(name string, class uint32, protocol uint16) bool {
	word, _, _ := strings.Cut(name, " ")
	return word == qdiscStays || class == QdiscClass && protocol == KeepProtocol
}

// patience is how long one waits for others of ours that work on the filters of the same namespace: nobody uses a qdisc that another one
// finds empty and removes.
const patience = time.Second

// errStays says that a qdisc of ours is left for a while.
var errStays = errors.New("traffic passes: removing the qdisc would lose packets; it stays until a quiet moment")

// stay keeps the qdisc, which would be empty without this filter: while a qdisc is removed the kernel drops what the interface sends.
func (f *tcFilter) stay() error {
	c := &code{}
	c.result(actNext)
	p, err := load("xt_stays", c.ins)
	if err != nil {
		return err
	}
	defer p.Close()
	const dir = frame.Ingress
	priority, err := f.freePriority(dir)
	if err != nil {
		return err
	}
	err = f.h.FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: f.index, Parent: parentOf(dir), Priority: priority, Protocol: KeepProtocol, Handle: 1},
		Fd:          p.FD(), Name: strings.TrimSpace(qdiscStays + " " + self()), DirectAction: true,
	})
	if err != nil {
		return fmt.Errorf("filter: %w", err)
	}
	return nil
}

// last reports whether the qdisc would be empty without the filter.
func (f *tcFilter) last() bool {
	n := 0
	for _, dir := range directions {
		list, err := filters(f.h, f.index, dir)
		if err != nil {
			return false // the interface is gone
		}
		n += len(list)
	}
	return n == 1
}

// holds reports whether a filter only keeps a qdisc.
func holds(b *netlink.BpfFilter) bool { return KeepsQdisc(b.Name, b.ClassId, b.Protocol) }
