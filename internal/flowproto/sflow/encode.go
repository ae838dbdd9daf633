package sflow

import (
	"encoding/binary"
	"time"

	"crosstap/internal/flow"
)

// Unknown stands for a counter or interface that is not known.
const Unknown = 0xffffffff

// Values of header_protocol.
const (
	HeaderEthernet = 1
	HeaderIPv4     = 11
	HeaderIPv6     = 12
)

// Limits of a datagram: the least holds one sample with a header of 256 bytes, or counters with the longest name.
const (
	MinDatagram = 400
	MaxDatagram = 65507
	// MaxHeader is how much of a packet a sample holds at most.
	MaxHeader = 256
	// maxName bounds an interface's name, so that one with its counters fits into the least datagram. Linux has 15 bytes.
	maxName = 128
)

// FlowSample is a packet that was chosen.
type FlowSample struct {
	Source   uint32 // ifIndex of the interface that was observed
	Rate     uint32 // one packet in so many is chosen
	Pool     uint32 // packets that could have been chosen so far
	Drops    uint32 // packets so far that nobody looked at, for want of time
	In, Out  uint32 // ifIndex; Unknown where it is not known, 0 for the host itself
	Protocol uint32 // what Header begins with
	FrameLen uint32 // bytes of the packet on the wire, frame check sequence included
	Stripped uint32 // of them, those that are not in the packet as captured: the frame check sequence
	Header   []byte // the first bytes, at most MaxHeader
}

// CounterSample is the generic counters of an interface, Unknown where one is not kept.
type CounterSample struct {
	Name                string // of the interface, told beside the counters (structure 1005, port_name); "" for none
	Index, Type         uint32 // ifIndex, ifType
	Speed               uint64 // bits per second
	Duplex, Status      uint32 // 0 unknown, 1 full, 2 half; bit 0 admin up, bit 1 oper up
	InOctets, OutOctets uint64
	// packets; unicast, multicast, broadcast
	InUnicast, InMulticast, InBroadcast, InDiscards, InErrors, InUnknown uint32
	OutUnicast, OutMulticast, OutBroadcast, OutDiscards, OutErrors       uint32
	Promiscuous                                                          uint32
}

// Encoder makes datagrams of one sub-agent. One goroutine at a time.
type Encoder struct {
	agent   flow.Addr
	sub     uint32
	boot    time.Time
	maxLen  int
	seq     uint32
	buf     []byte
	samples int
	flows   int // samples of packets in buf
	sources map[uint32]*sequences
}

// sequences are the numbers of a source's samples.
type sequences struct{ flow, counter uint32 }

// NewEncoder returns an encoder for an agent's address, whose uptime began at boot.
func NewEncoder(agent flow.Addr, subAgent uint32, boot time.Time, maxLen int) *Encoder {
	e := &Encoder{agent: agent, sub: subAgent, boot: boot, sources: make(map[uint32]*sequences)}
	e.SetMaxLen(maxLen)
	return e
}

// SetMaxLen changes the length that datagrams may have, from the next sample on.
func (e *Encoder) SetMaxLen(n int) { e.maxLen = min(max(n, MinDatagram), MaxDatagram) }

// MaxLen returns the length that datagrams may have.
func (e *Encoder) MaxLen() int { return e.maxLen }

// SetAgent changes the agent's address, from the next datagram on.
func (e *Encoder) SetAgent(a flow.Addr) {
	if e.samples == 0 {
		e.agent, e.buf = a, e.buf[:0]
	}
}

// Samples returns the number of samples in the unfinished datagram.
func (e *Encoder) Samples() int { return e.samples }

// compact reports whether interfaces fit into the short form of a sample.
func compact(indices ...uint32) bool {
	for _, i := range indices {
		if i >= 1<<24 && i != Unknown {
			return false
		}
	}
	return true
}

// AddFlow puts a sample of a packet into the datagram in the making. When it does not fit, emit gets the finished one
// first, with the number of packets in it; it is valid until emit returns.
func (e *Encoder) AddFlow(s *FlowSample, now time.Time, emit func(msg []byte, packets int) error) error {
	h := s.Header[:min(len(s.Header), MaxHeader)]
	size := 8 + 44 + 8 + 16 + (len(h)+3)&^3
	err := e.room(size, now, emit)
	q := e.source(s.Source)
	q.flow++
	at := 0
	if compact(s.Source, s.In, s.Out) {
		at = e.open(sampleFlow)
		e.u32(q.flow, s.Source, s.Rate, s.Pool, s.Drops, port(s.In), port(s.Out))
	} else {
		at = e.open(sampleFlowExpanded)
		e.u32(q.flow, ifIndex, s.Source, s.Rate, s.Pool, s.Drops, ifIndex, s.In, ifIndex, s.Out)
	}
	e.u32(1, recordHeader, uint32(16+(len(h)+3)&^3), s.Protocol, s.FrameLen, s.Stripped, uint32(len(h)))
	e.buf = append(e.buf, h...)
	e.pad()
	e.close(at)
	e.flows++
	return err
}

// port is an interface in the short form: not known is the greatest number that it holds.
func port(i uint32) uint32 {
	if i == Unknown {
		return ifInternal
	}
	return i
}

// AddCounters puts the counters of an interface into the datagram in the making.
func (e *Encoder) AddCounters(s *CounterSample, now time.Time, emit func(msg []byte, packets int) error) error {
	const size = 88
	name := s.Name[:min(len(s.Name), maxName)]
	named := 0
	if name != "" {
		named = 8 + 4 + (len(name)+3)&^3
	}
	err := e.room(8+16+8+size+named, now, emit)
	q := e.source(s.Index)
	q.counter++
	at := 0
	if compact(s.Index) {
		at = e.open(sampleCounters)
		e.u32(q.counter, s.Index)
	} else {
		at = e.open(sampleCountersExp)
		e.u32(q.counter, ifIndex, s.Index)
	}
	records := uint32(1)
	if named > 0 {
		records++
	}
	e.u32(records, recordHeader, size) // the generic counters have the number 1, as the header of a packet
	e.u32(s.Index, s.Type)
	e.u64(s.Speed)
	e.u32(s.Duplex, s.Status)
	e.u64(s.InOctets)
	e.u32(s.InUnicast, s.InMulticast, s.InBroadcast, s.InDiscards, s.InErrors, s.InUnknown)
	e.u64(s.OutOctets)
	e.u32(s.OutUnicast, s.OutMulticast, s.OutBroadcast, s.OutDiscards, s.OutErrors, s.Promiscuous)
	if named > 0 {
		e.u32(recordPortName, uint32(named-8), uint32(len(name)))
		e.buf = append(e.buf, name...)
		e.pad()
	}
	e.close(at)
	return err
}

// Flush finishes the datagram in the making and gives it to emit; nothing happens when there is none.
func (e *Encoder) Flush(now time.Time, emit func(msg []byte, packets int) error) error {
	if e.samples == 0 {
		return nil
	}
	e.seq++
	b := e.buf[:e.header()]
	binary.BigEndian.PutUint32(b[len(b)-12:], e.seq)
	binary.BigEndian.PutUint32(b[len(b)-8:], uint32(now.Sub(e.boot).Milliseconds()))
	binary.BigEndian.PutUint32(b[len(b)-4:], uint32(e.samples))
	msg, n := e.buf, e.flows
	e.buf, e.samples, e.flows = e.buf[:0], 0, 0
	return emit(msg, n)
}

// header returns the length of a datagram's header.
func (e *Encoder) header() int {
	if e.agent.Is4() || e.agent.IsZero() {
		return 28
	}
	return 40
}

// room makes sure that size bytes fit.
func (e *Encoder) room(size int, now time.Time, emit func([]byte, int) error) (err error) {
	if len(e.buf)+size > e.maxLen {
		err = e.Flush(now, emit)
	}
	if len(e.buf) == 0 {
		e.u32(Version)
		if e.header() == 28 {
			e.u32(addressIPv4)
			e.buf = append(e.buf, e.agent[12:]...)
		} else {
			e.u32(addressIPv6)
			e.buf = append(e.buf, e.agent[:]...)
		}
		e.u32(e.sub, 0, 0, 0)
	}
	return err
}

func (e *Encoder) source(index uint32) *sequences {
	q, ok := e.sources[index]
	if !ok {
		q = new(sequences)
		e.sources[index] = q
	}
	return q
}

// open begins a sample of a format and returns where its length stands.
func (e *Encoder) open(format uint32) int {
	e.u32(format, 0)
	return len(e.buf) - 4
}

func (e *Encoder) close(at int) {
	binary.BigEndian.PutUint32(e.buf[at:], uint32(len(e.buf)-at-4))
	e.samples++
}

// pad fills up what XDR counts in words of 32 bits. A header's length is a multiple of them.
func (e *Encoder) pad() {
	for len(e.buf)%4 != 0 {
		e.buf = append(e.buf, 0)
	}
}

func (e *Encoder) u32(all ...uint32) {
	for _, v := range all {
		e.buf = binary.BigEndian.AppendUint32(e.buf, v)
	}
}

func (e *Encoder) u64(v uint64) { e.buf = binary.BigEndian.AppendUint64(e.buf, v) }
