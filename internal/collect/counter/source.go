package counter

import (
	"encoding/hex"
	"math"
	"time"

	"crosstap/internal/flowproto"
)

// sample is what a source's counters stood at.
type sample struct {
	recvNS   int64
	uptimeMS uint32
	sequence uint32
	name     string
	uuid     string
	octets   [2]uint64 // in, out
	packets  [2]uint32 // in, out; they wrap
}

// read takes the counters of an interface or a machine out of a sample.
func read(c *flowproto.Counters) (s sample, why int, ok bool) {
	s = sample{recvNS: c.RecvNS, uptimeMS: c.UptimeMS, sequence: c.Sequence}
	blocks := [2]string{"if_counters", ""}
	in, out := "ifInOctets", "ifOutOctets"
	var inPackets, outPackets []string
	switch c.SourceType {
	case Interface:
		inPackets, outPackets = []string{"ifInUcastPkts", "ifInMulticastPkts", "ifInBroadcastPkts"}, []string{"ifOutUcastPkts", "ifOutMulticastPkts", "ifOutBroadcastPkts"}
	case Machine:
		blocks[0], in, out = "virt_net_io", "rx_bytes", "tx_bytes"
		inPackets, outPackets = []string{"rx_packets"}, []string{"tx_packets"}
	default:
		return s, dropOther, false
	}
	for i, name := range [...]string{in, out} {
		v, there := c.Uint(blocks[0], blocks[0]+"."+name)
		if !there {
			return s, dropOther, false
		}
		if v == math.MaxUint64 { // "not known", sFlow version 5, section 5.3
			return s, dropUnknown, false
		}
		s.octets[i] = v
	}
	for i, names := range [...][]string{inPackets, outPackets} {
		for _, name := range names {
			if v, there := c.Uint(blocks[0], blocks[0]+"."+name); there && uint32(v) != math.MaxUint32 {
				s.packets[i] += uint32(v)
			}
		}
	}
	for _, v := range c.Values {
		switch v.Element.Name {
		case "port_name.name", "host_descr.hostname":
			s.name = text(v.Value)
		case "host_descr.uuid":
			s.uuid = uuid(v.Bytes)
		}
	}
	return s, 0, true
}

// uuid writes 16 bytes in the usual form, "" when they are zero.
func uuid(b []byte) string {
	if len(b) != 16 || [16]byte(b) == [16]byte{} {
		return ""
	}
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// source is what a table knows of one source. It is used under the table's lock.
type source struct {
	last, base sample // the latest one, and the one before the cells
	name, uuid string
	cells      []Cell // that nobody has taken, the oldest first
}

// uptimeSlack is by how much an agent's uptime may grow otherwise than our time between two samples. Beyond it the agent has started anew, or its
// uptime has wrapped more than once.
const uptimeSlack = 30 * time.Second

// take gives the difference to the sample before. An agent that has started anew, or that was not heard for longer than its uptime
// counts, tells no difference.
func (s *source) take(now *sample) (c Cell, why int, ok bool) {
	if now.recvNS <= s.last.recvNS || now.sequence == s.last.sequence && now.uptimeMS == s.last.uptimeMS || older(now, &s.last) {
		return c, dropLate, false
	}
	last := s.last
	s.last = *now
	if now.name != "" {
		s.name = now.name
	}
	if now.uuid != "" {
		s.uuid = now.uuid
	}
	drift := time.Duration(now.recvNS-last.recvNS) - time.Duration(now.uptimeMS-last.uptimeMS)*time.Millisecond
	if drift.Abs() > uptimeSlack || now.sequence < last.sequence || now.octets[0] < last.octets[0] || now.octets[1] < last.octets[1] {
		if len(s.cells) == 0 {
			s.base = s.last
		}
		return c, dropRestart, false
	}
	return Cell{last.recvNS, now.recvNS, Amount{
		now.octets[0] - last.octets[0], now.octets[1] - last.octets[1],
		uint64(now.packets[0] - last.packets[0]), uint64(now.packets[1] - last.packets[1]), // modulo 1<<32: they wrap
	}}, 0, true
}

// older reports whether a sample was made before the last one: the agent is up for less time than then, but for longer than ago that
// was, so it has not started anew since.
func older(now, last *sample) bool {
	return now.uptimeMS < last.uptimeMS && int64(now.uptimeMS) > (now.recvNS-last.recvNS)/int64(time.Millisecond)
}
