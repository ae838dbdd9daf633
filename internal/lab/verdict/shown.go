// Package verdict compares what crosstap shows with what a lab's VMs really sent.
package verdict

import (
	"fmt"
	"net/netip"
	"strconv"

	"crosstap/internal/collect/report"
	"crosstap/internal/lab/truth"
)

// Shown returns what conversations say, each as its two directions.
func Shown(rows []report.Conversation) (truth.Flows, error) {
	f := truth.Flows{}
	for i := range rows {
		r := &rows[i]
		k, ok, err := key(r)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		f.Add(k, r.PacketsFwd, r.OctetsFwd)
		k.Src, k.Dst, k.SrcPort, k.DstPort = k.Dst, k.Src, k.DstPort, k.SrcPort
		f.Add(k, r.PacketsRev, r.OctetsRev)
	}
	return f, nil
}

// key returns the forward direction of a conversation; ok is false for traffic that is not IP, and for link-local
// multicast, which may come from :: and is left out of the truth as well.
func key(r *report.Conversation) (k truth.Key, ok bool, err error) {
	if r.DstAddr == "" {
		return k, false, nil
	}
	if k.Dst, err = netip.ParseAddr(r.DstAddr); err != nil {
		return k, false, fmt.Errorf("verdict: shown destination: %w", err)
	}
	if k.Dst.IsLinkLocalMulticast() {
		return k, false, nil
	}
	if k.Src, err = netip.ParseAddr(r.SrcAddr); err != nil {
		return k, false, fmt.Errorf("verdict: shown source: %w", err)
	}
	if k.Proto, err = protoNumber(r.Proto); err != nil {
		return k, false, err
	}
	k.VNI, k.SrcPort, k.DstPort = r.VNI, r.SrcPort, r.DstPort
	return k, true, nil
}

func protoNumber(name string) (uint8, error) {
	switch name {
	case "icmp":
		return truth.ICMP, nil
	case "tcp":
		return truth.TCP, nil
	case "udp":
		return truth.UDP, nil
	case "icmp6", "icmpv6", "ipv6-icmp":
		return truth.ICMPv6, nil
	}
	n, err := strconv.ParseUint(name, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("verdict: protocol %q is not known", name)
	}
	return uint8(n), nil
}

// pairsDiffer compares the pairs' sums with those of the conversations they are made of and returns a
// line for each that differs. Link-local multicast is left out.
func pairsDiffer(pairs []report.Pair, conversations []report.Conversation) []string {
	type ends struct{ segment, a, b string }
	name := func(e *report.Ends) ends {
		return ends{e.Segment, min(e.SrcAddr, e.DstAddr), max(e.SrcAddr, e.DstAddr)}
	}
	sums := map[ends]truth.Count{}
	for _, c := range conversations {
		if multicast(&c.Ends) {
			continue
		}
		s := sums[name(&c.Ends)]
		sums[name(&c.Ends)] = truth.Count{Packets: s.Packets + c.Packets, Octets: s.Octets + c.Octets}
	}
	var lines []string
	for _, p := range pairs {
		if multicast(&p.Ends) {
			continue
		}
		n := name(&p.Ends)
		if got := (truth.Count{Packets: p.Packets, Octets: p.Octets}); got != sums[n] {
			lines = append(lines, fmt.Sprintf("pair %s %s %s: %d packets, %d bytes; its conversations: %d packets, %d bytes",
				n.segment, n.a, n.b, got.Packets, got.Octets, sums[n].Packets, sums[n].Octets))
		}
		delete(sums, n)
	}
	for n, s := range sums {
		lines = append(lines, fmt.Sprintf("pair %s %s %s is missing: its conversations have %d bytes", n.segment, n.a, n.b, s.Octets))
	}
	return lines
}

func multicast(e *report.Ends) bool {
	dst, err := netip.ParseAddr(e.DstAddr)
	return err == nil && dst.IsLinkLocalMulticast()
}
