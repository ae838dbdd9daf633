package plan

import (
	"math"

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
	taps, open    pair // ports of which a direction is copied, and is not
	tapped, other pair // their bytes
	far, farBytes pair // of those that are not copied, the ones towards other switches
	unknown       bool // of all: copies are made at a switch without counters
}

func (s *sums) add(p *place, copied platform.Direction) {
	bytes, far := bytesOf(p.Port), p.Port.Kind != platform.PortVM
	s.counted = s.counted || bytes[0]+bytes[1] > 0
	for d, dir := range dirs {
		switch {
		case copied&dir != 0:
			s.taps[d]++
			s.tapped[d] += bytes[d]
		case far && !p.Port.Up && bytes[0]+bytes[1] == 0: // nothing is there
		default:
			s.open[d]++
			s.other[d] += bytes[d]
			if far {
				s.far[d]++
				s.farBytes[d] += bytes[d]
			}
		}
	}
}

// sum adds up the ports of each switch, and of all of them.
func (b *builder) sum(c taken) (switches map[groupKey]*sums, all sums) {
	switches = map[groupKey]*sums{}
	for i := range b.places {
		p := &b.places[i]
		if p.shadow || p.Port.Owner != "" || p.Port.Kind == platform.PortMirror {
			continue
		}
		s := switches[p.key]
		if s == nil {
			s = &sums{connects: p.Switch != nil && p.Switch.Kind != platform.SwitchAgent && p.Switch.Kind != platform.SwitchNone}
			switches[p.key] = s
		}
		s.add(p, c.at(p))
		all.add(p, c.at(p))
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

// indirect returns bounds of what is seen of a direction of a port that is not copied there; whole is true when it is all seen.
func (s *sums) indirect(all *sums, p *place, copied platform.Direction, d int) (least, most float64, whole bool) {
	o, bytes := 1-d, bytesOf(p.Port)
	var own, open pair // taps and bytes of the port itself, in the other direction
	if copied&dirs[o] != 0 {
		own = pair{1, bytes[o]}
	} else {
		open = pair{1, bytes[o]}
	}
	reach, ok := s.reach(all, o, own[0], own[1])
	switch {
	case !ok:
		return 0, 0, false
	case !s.connects:
		return 0, bytes[d], false
	}
	whole = s.open[o] == open[0]
	surely, most := max(0, bytes[d]-(s.other[o]-open[1])), min(bytes[d], reach)
	if dirs[d] == platform.Egress { // counters that began at different times leave bytes without a source: those are seen or not
		most = max(most, surely)
		if least = min(surely, min(bytes[d], reach)); whole {
			least = bytes[d]
		}
		return least, most, whole
	}
	return min(surely, most), most, whole // the switch throws away what leaves nowhere
}

// weigh is what is seen of the ports of a switch, a host, or all.
type weigh struct {
	host            string
	ports, oneWay   int
	bytes, direct   float64
	rest            pair    // bytes that are not copied at the ports
	least, most     pair    // what of them is seen elsewhere
	number, numbers float64 // directions: those that are all seen, and all
}

// port adds a port of a machine.
func (w *weigh) port(p *place, s, all *sums, copied platform.Direction) {
	w.ports++
	w.numbers += 2
	half := copied == platform.Ingress || copied == platform.Egress
	for d, n := range bytesOf(p.Port) {
		w.bytes += n
		if copied&dirs[d] != 0 {
			w.direct += n
			w.number++
			continue
		}
		w.rest[d] += n
		least, most, whole := s.indirect(all, p, copied, d)
		w.least[d] += least
		w.most[d] += most
		if whole {
			w.number++
			half = false
		}
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
	w.most[d] = max(w.least[d], min(w.most[d], copied))
}

func (w *weigh) add(o *weigh) {
	w.ports, w.oneWay = w.ports+o.ports, w.oneWay+o.oneWay
	w.bytes, w.direct = w.bytes+o.bytes, w.direct+o.direct
	w.number, w.numbers = w.number+o.number, w.numbers+o.numbers
	for d := range dirs {
		w.rest[d] += o.rest[d]
		w.least[d] += o.least[d]
		w.most[d] += o.most[d]
	}
}

// parts returns the bounds of what is seen.
func (w *weigh) parts() (least, most float64) {
	switch {
	case w.bytes > 0:
		return (w.direct + w.least[0] + w.least[1]) / w.bytes, (w.direct + w.most[0] + w.most[1]) / w.bytes
	case w.numbers > 0:
		return w.number / w.numbers, w.number / w.numbers
	}
	return 0, 0
}

func (w *weigh) to(after *weigh) (s Seen) {
	s.Before, s.BeforeMost = w.parts()
	s.After, s.AfterMost = after.parts()
	return s
}

// seen weighs what is seen of the machines' ports of each host, whose key has no switch, and of all.
func (b *builder) seen(c taken) (hosts map[groupKey]*weigh, whole weigh) {
	switches, all := b.sum(c)
	on, order := map[groupKey]*weigh{}, []groupKey{}
	for i := range b.places {
		p := &b.places[i]
		if p.Port.Kind != platform.PortVM || p.Port.Owner != "" || p.shadow {
			continue
		}
		if on[p.key] == nil {
			on[p.key], order = &weigh{host: p.hostName()}, append(order, p.key)
		}
		on[p.key].port(p, switches[p.key], &all, c.at(p))
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
		whole.add(w)
	}
	if !all.unknown {
		for d := range dirs {
			whole.limit(d, all.tapped[1-d], all.other[1-d])
		}
	}
	return hosts, whole
}
