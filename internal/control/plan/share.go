package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
)

// Passing is which part of the bytes of machines passes a packet filter, by their names.
type Passing struct {
	VMs map[string]Within
	Of  string // what it was taken from, such as "flows of the last 24 h"
	Why string // why nothing is known, of the filter as a whole
}

// Within is a part of a whole: at least, and at most.
type Within struct{ Least, Most float64 }

// cover is what a tap copies of the packets that pass its ports.
type cover struct {
	tap    string
	filter string
	vlans  string // with commas; "" for all
	sample int    // one packet in so many, 1 for all
	other  bool   // it was made by another form of the tap, which is not known
}

// whole is the number of the cover that leaves nothing out.
const whole = 0

// part is what is copied of the packets of one direction of a port.
type part struct {
	least, most float64
	tapped      bool
	even        float64 // of any choice of them on average: 1 of all, 1/N of a sample of them, 0 of what a filter or VLANs choose
}

var (
	everything = part{least: 1, most: 1, even: 1}
	anything   = part{most: 1}
)

// and is what passes both.
func (p part) and(o part) part {
	return part{least: max(0, p.least+o.least-1), most: min(p.most, o.most), even: p.even * o.even}
}

// or is what passes either.
func (p part) or(o part) part {
	return part{least: max(p.least, o.least), most: min(1, p.most+o.most), even: max(p.even, o.even)}
}

// number returns that of a cover.
func (b *builder) number(c cover) int32 {
	if c.filter == "" && c.vlans == "" && c.sample <= 1 && !c.other {
		return whole
	}
	if b.coverNumbers == nil {
		b.coverNumbers, b.covers = map[cover]int32{}, make([]cover, 1)
	}
	n, ok := b.coverNumbers[c]
	if !ok {
		n = int32(len(b.covers))
		b.coverNumbers[c], b.covers = n, append(b.covers, c)
	}
	return n
}

// ofSession is the cover of a session.
func ofSession(s *platform.Session) cover {
	c := cover{tap: s.Mark.Policy, filter: s.Filter, vlans: vlansText(s.VLANs), sample: max(s.Sample, 1)}
	if s.Flows != nil && s.Method == platform.MethodFlowsOnly {
		c.sample = max(s.Flows.Sampling, 1)
	}
	return c
}

// ofTap is the cover of what a tap makes, unless its budget forces it to copy less.
func ofTap(t *policy.Tap) cover {
	c := cover{tap: t.Name, filter: t.Filter, vlans: vlansText(t.VLANs), sample: max(t.Sample, 1)}
	if t.Method == platform.MethodFlowsOnly {
		c.sample = max(t.Flows.Sampling, 1)
	}
	return c
}

func vlansText(vlans []uint16) string {
	var out []string
	for _, v := range vlans {
		out = append(out, strconv.Itoa(int(v)))
	}
	return strings.Join(out, ",")
}

// ofObject is the cover of an object that is there: that of the session which it was made of, or of the tap in force.
func (b *builder) ofObject(o *platform.Object, made *platform.Session) cover {
	if made != nil && made.Mark.Digest == o.Mark.Digest {
		return ofSession(made)
	}
	was := b.in.Was
	if was == nil {
		was = b.in.Set
	}
	if t := was.Tap(o.Mark.Policy); t != nil && t.Budget.OnExceed != "sample" {
		return ofTap(t)
	}
	return cover{tap: o.Mark.Policy, other: true}
}

// taken is what copies each direction of a port: numbers of covers, by platform and ID.
type taken map[string]map[string][2][]int32

var wholeAlone = []int32{whole}

func (c taken) add(on string, sources []platform.Source, number int32) {
	if c[on] == nil {
		c[on] = map[string][2][]int32{}
	}
	for _, s := range sources {
		all := c[on][s.Port]
		for d, dir := range dirs {
			switch {
			case s.Dir&dir == 0 || slices.Contains(all[d], number):
			case number == whole:
				all[d] = wholeAlone // what others leave out is seen by this one
			case !slices.Contains(all[d], whole):
				all[d] = append(all[d], number)
			}
		}
		c[on][s.Port] = all
	}
}

// at returns the covers of a port, there and by its agent.
func (c taken) at(p *place) [2][]int32 {
	out := c[p.snap.Platform][p.Port.ID]
	if w := p.agent; w != nil {
		for d, more := range c[w.snap.Platform][w.Port.ID] {
			if len(more) > 0 {
				out[d] = slices.Concat(out[d], more)
			}
		}
	}
	return out
}

// partsAt returns what is copied of each direction of a port.
func (b *builder) partsAt(c taken, p *place) (out [2]part) {
	for d, numbers := range c.at(p) {
		for i, n := range numbers {
			if n == whole {
				out[d] = everything
				break
			}
			if !slices.ContainsFunc(numbers[:i], func(o int32) bool { return b.same(n, o) }) {
				out[d] = out[d].or(b.part(n, p, d))
			}
		}
		out[d].tapped = len(numbers) > 0
	}
	return out
}

// same reports whether two covers are of the same packets. Taps draw their samples by themselves.
func (b *builder) same(x, y int32) bool {
	if x == whole || y == whole {
		return x == y
	}
	a, o := b.covers[x], b.covers[y]
	if a.sample <= 1 {
		a.tap, o.tap = "", ""
	}
	return a == o && !a.other
}

// part returns what a cover takes of a direction of a port.
func (b *builder) part(number int32, p *place, d int) part {
	c := &b.covers[number]
	if c.other {
		return anything
	}
	out := everything
	if c.vlans != "" {
		out = partOfVLANs(c.vlans, p.Port)
	}
	if c.filter != "" {
		passes := anything
		if w, ok := b.passing(c.filter, d).VMs[p.vmName()]; ok {
			passes = part{least: w.Least, most: w.Most}
		}
		out = out.and(passes)
	}
	n := float64(c.sample)
	return part{least: out.least / n, most: out.most / n, even: out.even / n}
}

// partOfVLANs tells which part of the packets of a port is of VLANs, by what the port is given.
func partOfVLANs(vlans string, p *platform.Port) part {
	given := p.Trunk
	if p.VLAN != 0 {
		given = []uint16{p.VLAN}
	}
	in := 0
	for _, v := range given {
		in += count(slices.Contains(strings.Split(vlans, ","), strconv.Itoa(int(v))))
	}
	switch {
	case len(given) > 0 && in == len(given):
		return everything
	case len(given) > 0 && in == 0:
		return part{}
	}
	return anything
}

// passing returns what stored flows tell of a filter. It is asked once.
func (b *builder) passing(filter string, d int) *Passing {
	asked := b.passes[d][filter]
	if asked == nil {
		asked = &Passing{Why: "no flows are stored here"}
		if b.in.Rates != nil {
			*asked = b.in.Rates.Passing(dirs[d], filter)
		}
		if b.passes[d] == nil {
			b.passes[d] = map[string]*Passing{}
		}
		b.passes[d][filter] = asked
	}
	return asked
}

// whyPart says why a cover of a direction of a port is not all of it, and where its part is known from.
func (b *builder) whyPart(number int32, p *place, d int) string {
	c := &b.covers[number]
	if c.other {
		return "tap " + c.tap + ": what is there was made by another form of it; what that left out is not known"
	}
	var out []string
	if x := partOfVLANs(c.vlans, p.Port); c.vlans != "" && x.least < 1 {
		text := "VLANs " + strings.ReplaceAll(c.vlans, ",", ", ") + " alone"
		if x.most > 0 {
			text += "; which part of a trunk they are is not known"
		}
		out = append(out, text)
	}
	if c.filter != "" {
		out = append(out, b.whyFilter(c.filter, p, d))
	}
	if c.sample > 1 {
		out = append(out, fmt.Sprintf("sampled 1:%d", c.sample))
	}
	return "tap " + c.tap + ": " + strings.Join(out, ", ")
}

func (b *builder) whyFilter(filter string, p *place, d int) string {
	passes, text := b.passing(filter, d), fmt.Sprintf("filter %q", filter)
	w, ok := passes.VMs[p.vmName()]
	switch {
	case passes.Why != "":
		return text + "; which part passes it is not known: " + passes.Why
	case !ok:
		return text + "; which part passes it is not known of machines of which no flows are stored"
	case w.Least == 0 && w.Most == 1:
		return text + "; which part passes it is not known of machines of which no other flows are stored: perhaps nothing else is metered"
	}
	return text + ", by " + passes.Of
}
