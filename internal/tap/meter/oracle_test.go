package meter

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"crosstap/internal/dissect"
	"crosstap/internal/flow"
	"crosstap/internal/frame"
)

// slow is the meter in its most obvious form: a map of records, all of which are looked at for each packet.
type slow struct {
	cfg   Config
	flows map[flow.Record]*slowFlow // by a record that has only the fields of the key
	first map[string]*slowFirst     // first fragments
	held  []slowHeld
	clock int64
	out   []flow.Record
}

type slowFlow struct {
	r           flow.Record
	start, last int64
	closed      bool
	closes      int64
}

type slowFirst struct {
	r     flow.Record
	until int64
}

type slowHeld struct {
	id    string
	key   flow.Record
	r     flow.Record
	until int64
}

func (s *slow) packet(f frame.Frame) {
	var p dissect.Packet
	s.cfg.Dissector.Dissect(&p, f.Link, f.Data, f.OrigLen)
	in := p.Inner()
	if !in.HasIP {
		return
	}
	s.advance(f.TimeNS)
	key := flow.Record{
		Point: uint64(f.Point), Direction: uint8(f.Dir), Src: in.Src, Dst: in.Dst, SrcPort: in.SrcPort, DstPort: in.DstPort, Proto: in.Proto,
		ICMPTypeCode: in.ICMPTypeCode, EtherType: in.EtherType, VLAN: in.VLAN, InnerVLAN: in.InnerVLAN, SrcMAC: in.SrcMAC, DstMAC: in.DstMAC, Segment: in.Segment,
	}
	if p.NLevels > 1 {
		out := p.Levels[p.NLevels-2]
		key.Tunnel = flow.Tunnel{Src: out.Src, Dst: out.Dst, Proto: out.Proto, Type: in.TunnelType}
	}
	r := key
	if p.NLevels > 1 {
		out := p.Levels[p.NLevels-2]
		r.Tunnel.SrcPort, r.Tunnel.DstPort = out.SrcPort, out.DstPort
	}
	r.StartNS, r.EndNS, r.Packets, r.Octets = f.TimeNS, f.TimeNS, 1, uint64(in.IPLen32)
	r.L2Octets = uint64(len(f.Data)) - uint64(in.LinkOff)
	r.TCPFlags, r.ToS, r.MinTTL, r.MaxTTL, r.Sampling = in.TCPFlags, in.ToS, in.TTL, in.TTL, 1
	r.FirstTCPFlags = uint8(in.TCPFlags)
	r.MinLen, r.MaxLen = uint16(in.IPLen32), uint16(in.IPLen32)
	if in.FragOff == 0 && !in.MoreFrags {
		s.count(key, r)
		return
	}
	r.Marks, r.Fragments = flow.MarkFragments, 1
	id := fmt.Sprint(key.Src, key.Dst, key.Segment, key.Tunnel, key.Point, key.Direction, in.IPID)
	if in.EtherType == 0x0800 {
		id += fmt.Sprint("/", in.Proto)
	}
	if in.FragOff > 0 {
		if first, ok := s.first[id]; ok && first.until > s.clock {
			s.count(withPorts(key, first.r), withPorts(r, first.r))
		} else {
			s.held = append(s.held, slowHeld{id, key, r, s.clock + second})
		}
		return
	}
	s.first[id] = &slowFirst{key, s.clock + 30*second}
	for _, h := range s.held {
		if h.id == id {
			s.count(withPorts(h.key, key), withPorts(h.r, key))
		}
	}
	s.held = slices.DeleteFunc(s.held, func(h slowHeld) bool { return h.id == id })
	s.count(key, r)
}

func withPorts(r, from flow.Record) flow.Record {
	r.SrcPort, r.DstPort, r.ICMPTypeCode = from.SrcPort, from.DstPort, from.ICMPTypeCode
	return r
}

// advance moves the clock and ends every flow whose time has come.
func (s *slow) advance(ns int64) {
	if ns < s.clock-int64(s.cfg.ActiveTimeout) {
		s.end(flow.EndForced)
		s.clock = ns
	}
	ns = max(s.clock, ns)
	for len(s.held) > 0 && s.held[0].until <= ns {
		s.expire(max(s.clock, s.held[0].until))
		s.count(s.held[0].key, s.held[0].r)
		s.held = s.held[1:]
	}
	s.expire(ns)
}

func (s *slow) expire(ns int64) {
	s.clock = ns
	for k, f := range s.flows {
		if why, over := s.over(f); over {
			s.emit(k, why)
		}
	}
}

func (s *slow) over(f *slowFlow) (flow.EndReason, bool) {
	idle, active := f.last+int64(s.cfg.IdleTimeout), f.start+int64(s.cfg.ActiveTimeout)
	switch {
	case f.closed && min(f.closes, active) <= s.clock && min(f.closes, active) <= idle:
		return flow.EndDetected, true
	case active <= s.clock && active <= idle:
		return flow.EndActive, true
	case idle <= s.clock:
		return flow.EndIdle, true
	}
	return 0, false
}

func (s *slow) emit(k flow.Record, why flow.EndReason) {
	f := s.flows[k]
	f.r.EndReason = why
	s.out = append(s.out, f.r)
	delete(s.flows, k)
}

func (s *slow) count(k, r flow.Record) {
	f := s.flows[k]
	if f != nil && f.closed && r.TCPFlags&2 != 0 {
		s.emit(k, flow.EndDetected)
		f = nil
	}
	if f == nil {
		f = &slowFlow{r: r, start: s.clock}
		s.flows[k] = f
	} else {
		f.r.Packets += r.Packets
		f.r.Octets += r.Octets
		f.r.L2Octets += r.L2Octets
		f.r.StartNS, f.r.EndNS = min(f.r.StartNS, r.StartNS), max(f.r.EndNS, r.EndNS)
		f.r.MinTTL, f.r.MaxTTL = min(f.r.MinTTL, r.MinTTL), max(f.r.MaxTTL, r.MaxTTL)
		f.r.MinLen, f.r.MaxLen = min(f.r.MinLen, r.MinLen), max(f.r.MaxLen, r.MaxLen)
		f.r.Fragments += r.Fragments
		f.r.TCPFlags |= r.TCPFlags
		f.r.Marks |= r.Marks
	}
	f.last = s.clock
	if r.Proto == 6 && r.TCPFlags&5 != 0 && !f.closed {
		f.closed, f.closes = true, s.clock+int64(s.cfg.CloseLinger)
	}
}

func (s *slow) end(why flow.EndReason) {
	for _, h := range s.held {
		s.count(h.key, h.r)
	}
	s.held = nil
	clear(s.first)
	for k := range s.flows {
		s.emit(k, why)
	}
}

// TestOracle meters random traffic: few hosts and ports, so that flows are hit again, with pauses around the
// timeouts, closes, reused ports, fragments in any order, tunnels and steps back in time.
func TestOracle(t *testing.T) {
	for seed := range uint64(12) {
		frames := randomFrames(rand.New(rand.NewPCG(seed, 1)), 3000)
		c := DefaultConfig()
		s := slow{cfg: c, flows: map[flow.Record]*slowFlow{}, first: map[string]*slowFirst{}}
		for _, f := range frames {
			s.packet(f)
		}
		s.end(flow.EndForced)
		got, m := run(t, c, frames)
		for i := range got { // of what the payload and the order of segments tell: other tests
			r := &got[i]
			r.Client, r.Retransmits, r.ZeroWindows, r.RTTUS, r.App, r.AppHow = 0, 0, 0, 0, "", 0
		}
		sortRecords(got)
		sortRecords(s.out)
		if diff := gocmp.Diff(s.out, got); diff != "" {
			t.Fatalf("seed %d: (-obvious +fast), %+v\n%.3000s", seed, m.Stats(), diff)
		}
	}
}

func randomFrames(rnd *rand.Rand, n int) []frame.Frame {
	var frames []frame.Frame
	now := 1_000_000.0
	for len(frames) < n {
		switch r := rnd.IntN(1000); {
		case r < 8:
			now += float64(rnd.IntN(40)) // 15 s idle, 60 s active
		case r < 5:
			now -= float64(rnd.IntN(120))
		default:
			now += rnd.Float64() * 0.05
		}
		p := packet{
			srcMAC: byte(rnd.IntN(16) / 15), dstMAC: 1, ttl: uint8(60 + rnd.IntN(4)), tos: uint8(rnd.IntN(2)) * 16,
			src: fmt.Sprintf("10.0.0.%d", rnd.IntN(2)), dst: fmt.Sprintf("10.0.0.%d", rnd.IntN(2)),
			proto: [...]uint8{6, 6, 6, 17, 1}[rnd.IntN(5)], srcPort: uint16(rnd.IntN(2)), dstPort: 80,
			payload: rnd.IntN(200), id: uint16(rnd.IntN(5)), flags: 16,
		}
		if rnd.IntN(3) == 0 {
			p.src, p.dst = "fd00::1", fmt.Sprintf("fd00::%d", 1+rnd.IntN(2))
		}
		if rnd.IntN(4) == 0 {
			p.vni, p.vtepSrc, p.vtepDst = uint32(5001+rnd.IntN(2)), "192.0.2.1", fmt.Sprintf("192.0.2.%d", 2+rnd.IntN(9)/8)
		}
		if rnd.IntN(9) == 0 {
			p.vlan = 10
		}
		if rnd.IntN(30) == 0 {
			p.flags = [...]uint8{2, 17, 4}[rnd.IntN(3)]
		}
		p.id += uint16(p.proto) << 8 // of IPv6 fragments the protocol is no part of the identity
		switch rnd.IntN(12) {
		case 0:
			p.more = true
		case 1:
			p.fragOff, p.more = 64, rnd.IntN(2) == 0
		}
		f := p.at(now - rnd.Float64()*0.01) // not quite in order
		f.Point, f.Dir = uint32(rnd.IntN(10)/9), frame.Direction(rnd.IntN(10)/9)
		frames = append(frames, f)
	}
	return frames
}

func sortRecords(r []flow.Record) {
	slices.SortFunc(r, func(a, b flow.Record) int {
		if c := cmp.Or(cmp.Compare(a.StartNS, b.StartNS), cmp.Compare(a.EndNS, b.EndNS)); c != 0 {
			return c
		}
		return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b))
	})
}
