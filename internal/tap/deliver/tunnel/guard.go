package tunnel

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"crosstap/internal/dissect"
	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"crosstap/internal/wire"
)

// exclusion returns the expression that matches our own copies on their way, and the ICMP errors that hosts answer them with: each of those would be copied,
// and answered, too.
func (t *Target) exclusion(source, tool netip.Addr) string {
	source, tool = source.WithZone(""), tool.WithZone("")
	return fmt.Sprintf("(%s) or (%s)", t.excludeCopies(source, tool), t.excludeErrors(source, tool))
}

// Offsets of what an ICMP error quotes of the packet that it is about (RFC 792; RFC 4443, section 2.4), which has no options.
const (
	quoted4      = 8
	quoted6      = ipv6Header + 8
	icmp6NoError = 128 // and above
)

// excludeErrors matches ICMP errors about packets from us to the tool, over its transport.
func (t *Target) excludeErrors(source, tool netip.Addr) string {
	proto := wire.ProtoGRE
	if t.Kind.overUDP() {
		proto = wire.ProtoUDP
	}
	var body string
	port := 0
	if tool.Is4() {
		to := tool.As4()
		body = fmt.Sprintf("ip proto 1 and ip dst host %s and icmp[%d] = %d and icmp[%d:4] = 0x%x", source, quoted4+9, proto, quoted4+16, binary.BigEndian.Uint32(to[:]))
		port = quoted4 + ipv4Header + 2
	} else {
		to := tool.As16()
		body = fmt.Sprintf("ip6 proto 58 and ip6 dst host %s and ip6[%d] < %d and ip6[%d] = %d", source, ipv6Header, icmp6NoError, quoted6+6, proto)
		for i := 0; i < len(to); i += 4 {
			body += fmt.Sprintf(" and ip6[%d:4] = 0x%x", quoted6+24+i, binary.BigEndian.Uint32(to[i:]))
		}
		port = quoted6 + ipv6Header + 2
	}
	switch {
	case !t.Kind.overUDP():
		return body
	case tool.Is4():
		return fmt.Sprintf("%s and icmp[%d:2] = %d", body, port, t.Port)
	}
	return fmt.Sprintf("%s and ip6[%d:2] = %d", body, port, t.Port)
}

// excludeCopies matches packets from us to the tool with our encapsulation. Fragments of them have no header to tell by, and are all matched.
func (t *Target) excludeCopies(source, tool netip.Addr) string {
	const vxlanFlags = 0x08000000
	ip, transport, fragment := "ip", "udp", "ip[6:2] & 0x1fff != 0"
	if tool.Is6() {
		ip, fragment = "ip6", "ip6[6] = 44"
	}
	at := func(off int) string { // four bytes behind the outer IP header
		if tool.Is6() {
			return fmt.Sprintf("ip6[%d:4]", ipv6Header+off)
		}
		return fmt.Sprintf("%s[%d:4]", transport, off)
	}
	body := ""
	switch t.Kind {
	case VXLAN:
		body = fmt.Sprintf("udp dst port %d and %s = 0x%x and %s = 0x%x", t.Port, at(8), vxlanFlags, at(12), t.VNI<<8)
	case Geneve:
		body = fmt.Sprintf("udp dst port %d and %s = 0x%x and %s = 0x%x", t.Port, at(8), wire.TypeTEB, at(12), t.VNI<<8)
	case UDP:
		body = fmt.Sprintf("udp dst port %d", t.Port)
	default:
		return t.excludeGRE(ip, fragment, source, tool)
	}
	proto := "ip proto 17"
	if tool.Is6() {
		proto = "ip6 proto 17"
	} else {
		fragment = "(" + proto + " and " + fragment + ")"
	}
	return fmt.Sprintf("%s src host %s and %s dst host %s and (%s or (%s))", ip, source, ip, tool, fragment, body)
}

// excludeGRE matches packets of GRE and ERSPAN. Behind IPv4 the header is looked for where it stands without options, which we do not send.
func (t *Target) excludeGRE(ip, fragment string, source, tool netip.Addr) string {
	word := func(off int) string {
		if tool.Is6() {
			return fmt.Sprintf("ip6[%d:4]", ipv6Header+off)
		}
		return fmt.Sprintf("ip[%d:4]", ipv4Header+off)
	}
	e := newEncap(t)
	body := fmt.Sprintf("%s = 0x%x", word(0), uint32(e.head[0])<<24|uint32(e.head[1])<<16|uint32(e.head[2])<<8|uint32(e.head[3]))
	switch {
	case t.Kind == GRE && t.HasKey:
		body += fmt.Sprintf(" and %s = 0x%x", word(wire.GRELen), t.Key)
	case t.Kind != GRE:
		body += fmt.Sprintf(" and %s & 0x%x = 0x%x", word(greSeqLen), maxSession, t.Session)
	}
	proto := ip + " proto 47 and "
	if !tool.Is6() {
		return fmt.Sprintf("ip src host %s and ip dst host %s and ip proto 47 and (%s or (%s))", source, tool, fragment, body)
	}
	return fmt.Sprintf("ip6 src host %s and ip6 dst host %s and (%s or (%s%s))", source, tool, fragment, proto, body)
}

// breaker recognises our own copies among the frames to be copied, and trips.
type breaker struct {
	source, tool flow.Addr
	t            *Target
	armed        bool
	seen         atomic.Uint64 // frames with one of our copies inside
	recent       int           // of them, since
	since        time.Time
	tripped      atomic.Bool
}

// The breaker trips at so many of our own copies within a time. A few may be the echo of another tap that copies our uplink.
const (
	tripAt   = 50
	tripTime = 10 * time.Second
)

// watch arms the breaker.
func (s *Sink) watch() {
	s.guard.source, s.guard.tool = flow.FromNetip(s.way.source.WithZone("")), flow.FromNetip(s.way.tool.WithZone(""))
	s.guard.t, s.guard.armed = &s.cfg.Target, !s.cfg.Patient
}

// inspect returns the hash of a frame's conversation, and looks for our own copies in it.
func (s *Sink) inspect(f *frame.Frame) uint64 {
	if len(s.lanes) == 1 && !s.guard.armed {
		return 0
	}
	s.d.Dissect(&s.p, f.Link, f.Data, f.OrigLen)
	if s.guard.armed && s.guard.own(&s.p) {
		s.nested()
	}
	return conversation(&s.p)
}

// own reports whether a frame is one of our copies, or has one inside.
func (g *breaker) own(p *dissect.Packet) bool {
	for i := range p.NLevels {
		l := &p.Levels[i]
		if l.Dst != g.tool || l.Src != g.source {
			continue
		}
		var in *dissect.Flow
		if i+1 < p.NLevels {
			in = &p.Levels[i+1]
		}
		if g.ours(l, in) {
			return true
		}
	}
	return false
}

// ours reports whether a level that goes from us to the tool is our encapsulation. A fragment that does not begin with it is taken for ours.
func (g *breaker) ours(l, in *dissect.Flow) bool {
	if l.FragOff != 0 {
		return g.t.Kind.overUDP() == (l.Proto == wire.ProtoUDP) && (l.Proto == wire.ProtoUDP || l.Proto == wire.ProtoGRE)
	}
	if !g.t.Kind.overUDP() {
		return l.Proto == wire.ProtoGRE && (g.t.Kind != GRE || !g.t.HasKey || in == nil || in.Segment.Number() == g.t.Key)
	}
	if l.Proto != wire.ProtoUDP || l.DstPort != g.t.Port {
		return false
	}
	return g.t.Kind == UDP || in == nil || in.Segment.Number() == g.t.VNI
}

// nested counts a copy of a copy.
func (s *Sink) nested() {
	g, now := &s.guard, time.Now()
	g.seen.Add(1)
	if now.Sub(g.since) > tripTime {
		g.since, g.recent = now, 0
	}
	if g.recent++; g.recent < tripAt || g.tripped.Load() {
		return
	}
	g.tripped.Store(true)
	s.log.Error("loop: our own copies are being captured again: this destination is stopped; tap elsewhere, or send the copies another way",
		"to", s.Where(), "copies_seen", g.recent, "within", now.Sub(g.since).Round(time.Millisecond).String())
}
