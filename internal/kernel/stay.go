package kernel

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
)

// qdiscStays begins the name of a filter that only says that the qdisc is ours and goes in a quiet moment. Behind it stands the process.
const qdiscStays = filterName + ":r"

// errStays says that a qdisc of ours is left for a while.
var errStays = errors.New("traffic passes: removing the qdisc would lose packets; it stays until a quiet moment")

// stay keeps the qdisc, which would be empty without this filter: while a qdisc is removed the kernel drops what the interface sends. The filter that says
// whose it is is for a protocol of experiments, so that frames of all others pass it without a program being run.
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
		FilterAttrs: netlink.FilterAttrs{LinkIndex: f.index, Parent: parentOf(dir), Priority: priority, Protocol: unix.ETH_P_802_EX1, Handle: 1},
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
func holds(b *netlink.BpfFilter) bool {
	word, _, _ := strings.Cut(b.Name, " ")
	return word == qdiscStays
}
