package kernel

import (
	"sync"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"crosstap/internal/frame"
)

// inherited is what a pair of the same interfaces has left at its hooks.
type inherited struct {
	note  pairNote
	stats *ebpf.Map
	there bool
}

// inherit looks for such a pair.
func (x *Inline) inherit(links [2]netlink.Link) (in [2]inherited) {
	for i, l := range links {
		f, note, ok := pairAt(x.h, l.Attrs().Index, frame.Ingress)
		if !ok || note.peer != links[1-i].Attrs().Name {
			continue
		}
		in[i] = inherited{note: note, there: true}
		if note.second == (i == 1) {
			in[i].stats, _ = mapOf(ebpf.ProgramID(f.Id), pairStatsName)
		}
	}
	return in
}

// tellInherited says what passed while nobody kept the books.
func (x *Inline) tellInherited(before [2]inherited) {
	if !before[0].there && !before[1].there {
		return
	}
	alone := x.base.side[0].in[pairAlone] + x.base.side[1].in[pairAlone]
	x.log.Warn("the pair was joined already: it is taken over", "a", x.cfg.A, "b", x.cfg.B, "frames_not_watched", alone)
}

// joined are the pairs of this process, by their counters.
var joined = struct {
	sync.Mutex
	by map[ebpf.MapID]*Inline
}{by: map[ebpf.MapID]*Inline{}}

// register has the pair count from here on what another one of this process has counted until now.
func (x *Inline) register() {
	info, err := x.stats.m.Info()
	if err != nil {
		return
	}
	id, _ := info.ID()
	joined.Lock()
	before := joined.by[id]
	joined.by[id] = x
	joined.Unlock()
	if before != nil {
		before.resign(x.base)
	}
}

// deregister forgets the pair, unless another one has taken its place.
func (x *Inline) deregister() {
	joined.Lock()
	defer joined.Unlock()
	for id, y := range joined.by {
		if y == x {
			delete(joined.by, id)
		}
	}
}
