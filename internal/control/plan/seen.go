package plan

import (
	"maps"
	"math"
	"slices"

	"crosstap/internal/control/platform"
)

// What of a port is seen: the directions that are copied there, and packets that are copied at the other end of their way through the switch. A
// packet from port A to port B of a switch is seen when what comes in at A is copied, or what goes out at B. Counters of ports tell bounds of
// that: what leaves at B came in at ports that are copied, or at others. Broadcasts, which leave at several, are left out of account.

// pair is a number for each direction: into the switch, and out of it.
type pair [2]float64

var dirs = [2]platform.Direction{platform.Ingress, platform.Egress}

func bytesOf(p *platform.Port) pair { return pair{float64(p.RxBytes), float64(p.TxBytes)} }

// sums is what is copied of the ports of one switch, or of all.
type sums struct {
	connects      bool // the switch brings packets from port to port
	counted       bool // a port has counters
	taps, open    pair // ports of which something is copied in a direction, and of which something is not
	tapped, other pair // their bytes: copied at most, and not copied at most
	far, farBytes pair // of those that are not all copied, the ones towards other switches
	even          [2]lowest
	unknown       bool // of all: copies are made at a switch without counters
	several       bool // of all: taps choose different packets
}

// lowest keeps the two lowest of some numbers.
type lowest struct {
	n    int
	a, b float64
}

func (l *lowest) add(v float64) {
	switch {
	case l.n == 0:
		l.a, l.b = v, 1
	case v < l.a:
		l.a, l.b = v, l.a
	default:
		l.b = min(l.b, v)
	}
	l.n++
}

// without returns the lowest but one of v, which is among them when has says so; 1 when there is no other.
func (l *lowest) without(v float64, has bool) float64 {
	switch {
	case l.n == 0:
		return 1
	case has && v == l.a:
		return l.b
	}
	return l.a
}

func (s *sums) add(p *place, copied [2]part) {
	bytes, far := bytesOf(p.Port), p.Port.Kind != platform.PortVM
	s.counted = s.counted || bytes[0]+bytes[1] > 0
	for d, c := range copied {
		if c.most > 0 {
			s.taps[d]++
			s.tapped[d] += c.most * bytes[d]
		}
		if c.least == 1 || c.most == 0 && far && !p.Port.Up && bytes[0]+bytes[1] == 0 { // nothing is there
			continue
		}
		s.open[d]++
		s.other[d] += (1 - c.least) * bytes[d]
		s.even[d].add(c.even)
		if far {
			s.far[d]++
			s.farBytes[d] += (1 - c.least) * bytes[d]
		}
	}
}

// sum adds up the ports of each switch, and of all of them. What comes to a tool's port is no traffic of the switch.
func (b *builder) sum(c taken) (switches map[groupKey]*sums, all sums) {
	switches = map[groupKey]*sums{}
	first := int32(-1) // cover
	for i := range b.places {
		p := &b.places[i]
		if p.shadow || p.Port.Owner != "" || p.Port.Kind == platform.PortMirror || len(b.toolPorts[[2]string{p.snap.Platform, p.Port.ID}]) > 0 {
			continue
		}
		s := switches[p.key]
		if s == nil {
			s = &sums{connects: p.Switch != nil && p.Switch.Kind != platform.SwitchAgent && p.Switch.Kind != platform.SwitchNone}
			switches[p.key] = s
		}
		copied := b.partsAt(c, p)
		s.add(p, copied)
		all.add(p, copied)
		for _, numbers := range c.at(p) {
			for _, n := range numbers {
				if first < 0 {
					first = n
				}
				all.several = all.several || n != first && !b.same(n, first)
			}
		}
	}
	for _, s := range switches {
		all.unknown = all.unknown || s.taps[0]+s.taps[1] > 0 && !s.counted
	}
	return switches, all
}

// elsewhere returns the bytes of a direction that are copied at other switches.
func (s *sums) elsewhere(all *sums, d int) float64 {
	if all.unknown {
		return math.Inf(1)
	}
	return all.tapped[d] - s.tapped[d]
}

// reach returns the most bytes that ports of the switch but one may have of packets that are copied in direction o where they go in or out; ok is
// false when there are none.
func (s *sums) reach(all *sums, o int, ownTaps, ownBytes float64) (bytes float64, ok bool) {
	far := all.taps[o] > s.taps[o]
	switch {
	case !s.connects:
		return math.Inf(1), all.taps[o] > ownTaps
	case far && s.far[o] > 0:
		return s.tapped[o] - ownBytes + min(s.farBytes[o], s.elsewhere(all, o)), true
	}
	return s.tapped[o] - ownBytes, s.taps[o] > ownTaps
}

// indirect returns bounds of what is seen of a direction of a port where its packets come from or go to, and which part of any of them surely is.
func (s *sums) indirect(all *sums, p *place, copied [2]part, d int) (least, most, even float64) {
	o, bytes := 1-d, bytesOf(p.Port)
	own, taps := copied[o], 0.
	if own.most > 0 {
		taps = 1
	}
	reach, ok := s.reach(all, o, taps, own.most*bytes[o])
	switch {
	case !ok:
		return 0, 0, 0
	case !s.connects:
		return 0, bytes[d], 0
	}
	even = s.even[o].without(own.even, own.least < 1)
	surely, most := max(0, bytes[d]-(s.other[o]-(1-own.least)*bytes[o])), min(bytes[d], reach)
	if dirs[d] == platform.Egress { // counters that began at different times leave bytes without a source: those are seen or not
		return max(min(surely, most), even*bytes[d]), max(most, surely), even
	}
	return min(max(surely, even*bytes[d]), most), most, even // the switch throws away what leaves nowhere
}

// weigh is what is seen of the ports of a switch, a host, or all.
type weigh struct {
	host          string
	ports, oneWay int
	bytes         float64
	least         pair // bytes that are seen
	direct, extra pair // bytes that are seen at most: at the ports, and elsewhere
	rest          pair // bytes that are not copied at the ports at least
	number        Within
	numbers       float64 // directions: those that are seen, and all
	guess         bool    // it is not known who spoke with whom
	why           map[string]bool
}

// port adds a port of a machine.
func (w *weigh) port(p *place, s, all *sums, copied [2]part) {
	w.ports++
	w.numbers += 2
	half := copied[0].tapped != copied[1].tapped
	for d, n := range bytesOf(p.Port) {
		c := copied[d]
		w.bytes += n
		w.direct[d] += c.most * n
		w.rest[d] += (1 - c.most) * n
		if c.least == 1 {
			w.least[d] += n
			w.number = Within{w.number.Least + 1, w.number.Most + 1}
			continue
		}
		least, most, even := s.indirect(all, p, copied, d)
		if c.most > 0 && !all.several { // the other end copies the same packets, or one of its taps has left them out
			most = 0
		}
		w.least[d] += max(c.least*n, least)
		w.extra[d] += min((1-c.most)*n, most)
		w.guess = w.guess || most > least
		w.number = Within{w.number.Least + max(c.least, even), w.number.Most + max(c.most, even)}
		half = half && (c.tapped || even == 0)
	}
	if half {
		w.oneWay++
	}
}

// limit keeps what is seen elsewhere below what is copied there, as a packet has one sender and one receiver. other is what the sources have
// that is not copied: what receivers have beyond it may be seen.
func (w *weigh) limit(d int, copied, other float64) {
	if dirs[d] == platform.Egress {
		copied = max(copied, w.rest[d]-other)
	}
	w.extra[d] = min(w.extra[d], copied)
}

func (w *weigh) add(o *weigh) {
	w.ports, w.oneWay = w.ports+o.ports, w.oneWay+o.oneWay
	w.bytes += o.bytes
	w.number = Within{w.number.Least + o.number.Least, w.number.Most + o.number.Most}
	w.numbers += o.numbers
	for d := range dirs {
		w.least[d] += o.least[d]
		w.direct[d] += o.direct[d]
		w.extra[d] += max(o.extra[d], o.least[d]-o.direct[d])
		w.rest[d] += o.rest[d]
	}
	w.guess = w.guess || o.guess
	for text := range o.why {
		w.because(text)
	}
}

func (w *weigh) because(text string) {
	if w.why == nil {
		w.why = map[string]bool{}
	}
	w.why[text] = true
}

// parts returns the bounds of what is seen, and what there is to say about them.
func (w *weigh) parts() (least, most float64, why []string) {
	switch {
	case w.bytes > 0:
		for d := range dirs {
			least += w.least[d]
			most += max(w.least[d], w.direct[d]+w.extra[d])
		}
		least, most = least/w.bytes, most/w.bytes
	case w.numbers > 0:
		least, most = w.number.Least/w.numbers, w.number.Most/w.numbers
	}
	why = slices.Sorted(maps.Keys(w.why))
	if w.guess && most > least {
		why = append(why, "counters of ports do not tell who spoke with whom")
	}
	return least, most, why
}

func (w *weigh) to(after *weigh) (s Seen) {
	s.Before, s.BeforeMost, s.BeforeWhy = w.parts()
	s.After, s.AfterMost, s.AfterWhy = after.parts()
	return s
}

// seen weighs what is seen of the machines' ports of each host, whose key has no switch, and of all.
func (b *builder) seen(c taken) (hosts map[groupKey]*weigh, total weigh) {
	switches, all := b.sum(c)
	on, order := map[groupKey]*weigh{}, []groupKey{}
	for i := range b.places {
		p := &b.places[i]
		if p.Port.Kind != platform.PortVM || p.Port.Owner != "" || p.shadow || b.left[i] {
			continue
		}
		if on[p.key] == nil {
			on[p.key], order = &weigh{host: p.hostName()}, append(order, p.key)
		}
		b.weigh(on[p.key], c, p, switches[p.key], &all)
	}
	hosts = map[groupKey]*weigh{}
	for _, key := range order {
		w, s := on[key], switches[key]
		for d := range dirs {
			reach, _ := s.reach(&all, 1-d, 0, 0)
			w.limit(d, reach, s.other[1-d])
		}
		host := groupKey{key.platform, key.host, ""}
		if hosts[host] == nil {
			hosts[host] = &weigh{host: w.host}
		}
		hosts[host].add(w)
		total.add(w)
	}
	if !all.unknown {
		for d := range dirs {
			total.limit(d, all.tapped[1-d], all.other[1-d])
		}
	}
	return hosts, total
}

// weigh adds a port to what is seen, with what its taps leave out.
func (b *builder) weigh(w *weigh, c taken, p *place, s, all *sums) {
	copied := b.partsAt(c, p)
	w.port(p, s, all, copied)
	for d, numbers := range c.at(p) {
		for _, n := range numbers {
			if copied[d].least < 1 && n != whole {
				w.because(b.whyPart(n, p, d))
			}
		}
	}
}
