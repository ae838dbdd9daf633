package enrich

import (
	"crosstap/internal/apphint"
	"crosstap/internal/flow"
)

// How well it is known who opened a conversation.
const (
	unsure    uint8 = iota
	byPort          // the lower port is taken for the server's
	byStart         // one observer saw one direction begin before the other
	byService       // one port alone is a known service, or below 1024
	bySign          // a packet said so: SYN, echo request, the exporter
)

// conversation is what both directions of a flow share.
type conversation struct {
	key       uint64
	refs      int32 // directions remembered
	sure      uint8
	lowOpened bool // the lower end opened it

	// first start of each direction as one exporter saw it; [0] is from the lower end
	exporter [2]uint64
	startNS  [2]int64
}

type conversations struct {
	list  []conversation
	free  []int32
	byKey refs
}

func (c *conversations) len() int { return c.byKey.len() }

// join returns the conversation of a key for one more direction.
func (c *conversations) join(key uint64) int32 {
	ref, at := c.byKey.get(key)
	if ref == none {
		if n := len(c.free); n > 0 {
			ref, c.free = c.free[n-1], c.free[:n-1]
		} else {
			ref = int32(len(c.list))
			c.list = append(room(c.list, c.byKey.limit), conversation{})
		}
		c.list[ref] = conversation{key: key}
		c.byKey.putAt(at, key, none, ref)
	}
	c.list[ref].refs++
	return ref
}

func (c *conversations) leave(ref int32) {
	v := &c.list[ref]
	if v.refs--; v.refs == 0 {
		c.byKey.del(v.key, ref)
		c.free = append(c.free, ref)
	}
}

// see takes in what a record tells of who opened its conversation. What is known better stays.
func (c *conversations) see(f *known, r *flow.Record) {
	v := &c.list[f.conv]
	if v.sure == bySign {
		return
	}
	srcOpened, sure := sign(r)
	if sure == unsure && v.sure < byService {
		srcOpened, sure = byPorts(r)
	}
	if sure > v.sure {
		v.sure, v.lowOpened = sure, srcOpened == f.low
	}
	if v.sure >= byService {
		return
	}
	side := 1
	if f.low {
		side = 0
	}
	if exporter := exporterOf(r); v.exporter[side] == 0 {
		v.exporter[side], v.startNS[side] = exporter, r.StartNS
		if v.exporter[1-side] == exporter && v.startNS[0] != v.startNS[1] {
			v.sure, v.lowOpened = byStart, v.startNS[0] < v.startNS[1]
		}
	}
}

// exporterOf tells the clocks apart by which start times were taken.
func exporterOf(r *flow.Record) uint64 { return exporterHash(&r.Exporter, r.Domain) | 1 }

// client returns the answer for a record of one direction; guess tells that no packet said so.
func (c *conversations) client(f *known) (client flow.Client, guess bool) {
	v := &c.list[f.conv]
	if v.sure == unsure {
		return flow.ClientUnknown, false
	}
	if v.lowOpened == f.low {
		return flow.ClientSrc, v.sure != bySign
	}
	return flow.ClientDst, v.sure != bySign
}

// TCP flags, RFC 9293, section 3.1.
const (
	flagSYN = 0x02
	flagACK = 0x10
)

// sign reads from one record whether its source opened the conversation. A SYN without ACK is the client's, both in
// one packet are the server's. The flags of all packets together tell less than those of the first one.
func sign(r *flow.Record) (srcOpened bool, sure uint8) {
	switch {
	case r.Client != flow.ClientUnknown:
		return r.Client == flow.ClientSrc, bySign
	case r.Proto == 6 && r.FirstTCPFlags&flagSYN != 0:
		return r.FirstTCPFlags&flagACK == 0, bySign
	case r.Proto == 6 && r.TCPFlags&(flagSYN|flagACK) == flagSYN:
		return true, bySign
	case r.Proto == 6 && r.TCPFlags&(flagSYN|flagACK) == flagSYN|flagACK && r.Packets == 1:
		return false, bySign
	case isICMP(r.Proto):
		return echo(r)
	}
	return false, unsure
}

// echo reads ICMP echo messages (RFC 792, RFC 4443, section 4).
func echo(r *flow.Record) (srcOpened bool, sure uint8) {
	request, reply := uint16(8), uint16(0)
	if r.Proto == 58 {
		request, reply = 128, 129
	}
	switch r.ICMPTypeCode >> 8 {
	case request:
		return true, bySign
	case reply:
		return false, bySign
	}
	return false, unsure
}

// byPorts takes the end with the better-known port for the server.
func byPorts(r *flow.Record) (srcOpened bool, sure uint8) {
	if !hasPorts(r.Proto) || r.SrcPort == r.DstPort || r.SrcPort == 0 || r.DstPort == 0 {
		return false, unsure
	}
	src, dst := standing(r.Proto, r.SrcPort), standing(r.Proto, r.DstPort)
	if src != dst {
		return dst > src, byService
	}
	return r.DstPort < r.SrcPort, byPort
}

// standing orders ports: a service with a name, a system port (RFC 6335, section 6), any other.
func standing(proto uint8, port uint16) int {
	switch {
	case apphint.OfPort(proto, port) != "":
		return 2
	case port < 1024:
		return 1
	}
	return 0
}

func hasPorts(proto uint8) bool {
	return proto == 6 || proto == 17 || proto == 132 || proto == 33 || proto == 136
}
