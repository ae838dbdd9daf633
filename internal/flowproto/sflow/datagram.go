// Package sflow decodes sFlow version 5 (sFlow.org, "sFlow Version 5", July 2004, and its later structures): samples of packets
// with what the switch knows of each, packets that it discarded, and counters.
package sflow

import (
	"encoding/binary"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/decode"
)

// Numbers of the format.
const (
	Version = 5
	Port    = 6343 // registered for UDP

	addressIPv4 = 1
	addressIPv6 = 2
)

// Info is the header of a datagram.
type Info struct {
	Agent    flow.Addr // the agent's own address
	SubAgent uint32    // counts datagrams apart from the agent's others
	Sequence uint32    // datagrams sent before by the sub-agent
	UptimeMS uint32
	Samples  int
	Len      int // of the header
}

// ParseInfo reads the header of the datagram in b. The error is of type *decode.Error.
func ParseInfo(b []byte) (Info, error) {
	if len(b) >= 4 && binary.BigEndian.Uint32(b) != Version {
		return Info{}, &decode.Error{Protocol: decode.SFlow, Reason: decode.BadVersion, Need: Version, Have: int(binary.BigEndian.Uint32(b))}
	}
	c := cursor{b: b}
	c.u32()
	var i Info
	i.Agent = c.address()
	i.SubAgent, i.Sequence, i.UptimeMS, i.Samples = c.u32(), c.u32(), c.u32(), int(c.u32())
	i.Len = c.off
	if c.bad {
		return i, &decode.Error{Protocol: decode.SFlow, Reason: decode.ShortMessage, Need: c.off, Have: len(b)}
	}
	return i, nil
}

// Session is the decoding state of one transport session: sequence numbers of sub-agents and of their sources. One goroutine at
// a time.
type Session struct {
	*decode.Decoder
	sources    map[source]*account
	onCounters func(*decode.Counters)
	w          walk
}

// source is what counts its samples.
type source struct {
	agent flow.Addr
	sub   uint32
	class uint32
	index uint32
	kind  uint8 // of sample: each kind has numbers of its own
}

// account is what is kept of a source.
type account struct {
	line  decode.Line
	drops uint32 // as of its last sample
	known bool
}

// maxSources bounds the sources whose samples are counted.
const maxSources = 4096

// NewSession returns a new session.
func NewSession(l decode.Limits) *Session {
	return &Session{Decoder: decode.NewDecoder(l, nil), sources: make(map[source]*account)}
}

// OnCounters makes Decode show every counter sample to f.
func (s *Session) OnCounters(f func(*decode.Counters)) { s.onCounters = f }

// AppendTemplates appends nothing: there are no templates.
func (s *Session) AppendTemplates(b []byte) []byte { return b }

// Forget forgets all sequence numbers.
func (s *Session) Forget() {
	s.Decoder.Forget()
	clear(s.sources)
}

// Decode decodes one datagram and appends a flow record for each packet that was sampled or discarded. recvNS is the time of
// receipt, and that of the packets where the agent does not tell. The error is of type *decode.Error and
// tells the first problem; what could be decoded is returned all the same.
func (s *Session) Decode(b []byte, recvNS int64, recs []flow.Record) ([]flow.Record, decode.Result, error) {
	s.Begin(recvNS, recs, nil)
	s.datagram(b, recvNS)
	return s.End()
}

// Walk decodes as Decode does, but shows every sample to visit instead of making flow records.
func (s *Session) Walk(b []byte, recvNS int64, visit func(*decode.Item)) (decode.Result, error) {
	s.Begin(recvNS, nil, visit)
	s.datagram(b, recvNS)
	_, res, err := s.End()
	return res, err
}

func (s *Session) datagram(b []byte, recvNS int64) {
	i, err := ParseInfo(b)
	if err != nil {
		s.Reject(err.(*decode.Error))
		return
	}
	s.Open(decode.Message{Protocol: decode.SFlow, Domain: i.SubAgent, Sequence: i.Sequence, ExportNS: recvNS, Uptime: true, UptimeMS: i.UptimeMS})
	s.Result().Agent, s.Result().ExportTime = i.Agent, time.Time{}
	d := s.Domain(i.SubAgent)
	s.samples(i, b, recvNS)
	s.Account(decode.Step{Line: &d.Line, At: i.Sequence, N: 1, Counted: true, Unit: decode.Datagrams})
}

// samples walks the samples of a datagram.
func (s *Session) samples(i Info, b []byte, recvNS int64) {
	off := i.Len
	for n := range i.Samples {
		if len(b)-off < 8 {
			if n < i.Samples {
				s.Problem(decode.BadCount, 0, off, off+8*(i.Samples-n), len(b))
			}
			return
		}
		format, size := binary.BigEndian.Uint32(b[off:]), int(binary.BigEndian.Uint32(b[off+4:]))
		if size < 0 || size > len(b)-off-8 {
			s.Problem(decode.BadSample, uint16(format), off, size, len(b)-off-8)
			return
		}
		s.w = walk{s: s, info: i, recvNS: recvNS, off: off + 8, c: cursor{b: b[off+8 : off+8+size : off+8+size]}, values: s.w.values[:0]}
		s.w.sample(format)
		off += 8 + size
	}
}

// follow compares the number of a source's sample with the last one.
func (s *Session) follow(k source, sequence uint32) *account {
	a := s.sources[k]
	if a == nil {
		if len(s.sources) >= maxSources {
			clear(s.sources)
		}
		a = new(account)
		s.sources[k] = a
	}
	s.Result().LostSamples += a.line.Follow(sequence, 1)
	return a
}

// drop takes in the number of packets that the agent could not sample since it started.
func (s *Session) drop(a *account, drops uint32) {
	if d := drops - a.drops; a.known && d < 1<<31 {
		s.Result().AgentDrops += uint64(d)
	}
	a.drops, a.known = drops, true
}

// cursor reads XDR (RFC 4506): words of four bytes.
type cursor struct {
	b   []byte
	off int
	bad bool // a read went beyond the end; off is then where it would have ended
}

func (c *cursor) take(n int) []byte {
	if c.bad || n < 0 || n > len(c.b)-c.off {
		if !c.bad {
			c.off += max(n, 0)
		}
		c.bad = true
		return nil
	}
	b := c.b[c.off : c.off+n : c.off+n]
	c.off += n
	return b
}

func (c *cursor) u32() uint32 {
	if b := c.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) u64() uint64 { return uint64(c.u32())<<32 | uint64(c.u32()) }

// opaque reads bytes of a length that stands before them, padded to words.
func (c *cursor) opaque() []byte {
	n := int(c.u32())
	b := c.take(n)
	if pad := -n & 3; pad > 0 && !c.bad {
		c.take(min(pad, len(c.b)-c.off)) // the last one's padding may be missing
	}
	return b
}

func (c *cursor) mac() flow.MAC {
	if b := c.take(8); b != nil {
		return flow.MACFrom(b)
	}
	return 0
}

func (c *cursor) v4() flow.Addr {
	if b := c.take(4); b != nil {
		return flow.V4(b)
	}
	return flow.Addr{}
}

func (c *cursor) v6() flow.Addr {
	if b := c.take(16); b != nil {
		return flow.V6(b)
	}
	return flow.Addr{}
}

// address reads a type and an address of that type; zero for the type "unknown".
func (c *cursor) address() flow.Addr {
	switch c.u32() {
	case addressIPv4:
		return c.v4()
	case addressIPv6:
		return c.v6()
	}
	return flow.Addr{}
}
