package netflow5

import (
	"fmt"
	"math"
	"time"

	"crosstap/internal/flow"
)

// Reason says why a record has no place in the format.
type Reason uint8

// The reasons. Taken is none: the record was put.
const (
	Taken        Reason = iota
	NotIPv4             // of IPv6, or of no IP at all
	TooSparse           // sampled at one packet in more than MaxSamplingInterval
	reasonsCount        // how many there are
)

var reasonNames = [reasonsCount]string{"taken", "not_ipv4", "too_sparse"}

// String returns the reason as the books name it.
func (r Reason) String() string { return reasonNames[r] }

// EncoderConfig says what an encoder writes.
type EncoderConfig struct {
	// Boot is when the exporter's uptime was zero. The zero time is for captures, whose clock is that of their packets: the
	// uptime then begins a day before the first record, and each datagram is dated with the newest packet so far.
	Boot                 time.Time
	EngineType, EngineID uint8
	SamplingMode         uint8 // told where packets are sampled; SamplingNone means SamplingDeterministic
	MaxLen               int   // of a datagram, bytes; 0 for MaxLen
}

// Validate reports the first mistake.
func (c EncoderConfig) Validate() error {
	if c.SamplingMode > SamplingRandom {
		return fmt.Errorf("netflow5: sampling mode %d: must be %d (deterministic) or %d (random)", c.SamplingMode, SamplingDeterministic, SamplingRandom)
	}
	return nil
}

// Encoder turns flow records into the datagrams of one engine. One goroutine at a time.
//
// What the format does not hold stays out: addresses of tunnels, segments, MACs, VLANs. Next hop, autonomous systems and
// masks are zero.
type Encoder struct {
	cfg    EncoderConfig
	bootMS int64 // since the Unix epoch
	seq    uint32
	undo   uint32 // seq before the last finished datagram
	newest int64  // ms of the newest packet: of this datagram, or of a capture so far

	buf      [MaxLen]byte
	parts    int // records in buf
	records  int // flow records that they stand for
	max      int // records that a datagram may have
	interval uint16
	stats    EncoderStats
}

// EncoderStats are figures of an encoder since its start.
type EncoderStats struct {
	Refused    [reasonsCount]uint64 // records that have no place, by Reason
	Split      uint64               // records that became several because a counter has 32 bits
	Saturated  uint64               // records whose counters did not fit into a datagram full of records
	Interfaces uint64               // records with an interface index beyond 16 bits, told as 0
	Clamped    uint64               // records with a start 49.7 days before the datagram or more
	Omitted    uint64               // records whose tunnel was left out
}

// NewEncoder returns an encoder. The configuration must be valid.
func NewEncoder(c EncoderConfig) *Encoder {
	e := &Encoder{cfg: c}
	if c.SamplingMode == SamplingNone {
		e.cfg.SamplingMode = SamplingDeterministic
	}
	if !c.Boot.IsZero() {
		e.bootMS = c.Boot.UnixMilli()
	}
	if c.MaxLen == 0 {
		c.MaxLen = MaxLen
	}
	e.SetMaxLen(c.MaxLen)
	return e
}

// SetMaxLen changes the length that datagrams may have, from the next record on; at least one record fits.
func (e *Encoder) SetMaxLen(n int) { e.max = min(max((n-HeaderLen)/RecordLen, 1), MaxRecords) }

// SetRandom says how packets are chosen where they are sampled, from the next datagram on: by chance, or one after so many others.
func (e *Encoder) SetRandom(random bool) {
	if e.cfg.SamplingMode = SamplingDeterministic; random {
		e.cfg.SamplingMode = SamplingRandom
	}
}

// MaxLen returns the length that datagrams may have.
func (e *Encoder) MaxLen() int { return HeaderLen + e.max*RecordLen }

// Sequence returns the number of records in finished datagrams, modulo 2³².
func (e *Encoder) Sequence() uint32 { return e.seq }

// Records returns the number of flow records in the unfinished datagram.
func (e *Encoder) Records() int { return e.records }

// Stats returns the present figures.
func (e *Encoder) Stats() EncoderStats { return e.stats }

// Refuses says why the format has no place for a record.
func Refuses(r *flow.Record) Reason {
	switch {
	case !r.Src.Is4() || !r.Dst.Is4():
		return NotIPv4
	case r.Sampling > MaxSamplingInterval:
		return TooSparse
	}
	return Taken
}

// Add puts a record into the datagram in the making. A datagram that is full, or of another sampling interval, goes to emit
// first with the number of flow records in it; it is valid until emit returns. A record that has no place is counted,
// and its reason returned; an error of emit is returned after the record was put.
//
// Counters beyond 32 bits are split evenly over as many records as they need, all in one datagram.
func (e *Encoder) Add(r *flow.Record, now time.Time, emit func(msg []byte, records int) error) (Reason, error) {
	if why := Refuses(r); why != Taken {
		e.stats.Refused[why]++
		return why, nil
	}
	interval := uint16(r.Sampling)
	if interval == 1 {
		interval = 0
	}
	parts := e.partsOf(r)
	var err error
	if e.parts > 0 && (e.parts+parts > e.max || interval != e.interval) {
		err = e.Flush(now, emit)
	}
	e.interval = interval
	e.put(r, parts, now)
	if e.parts == e.max && err == nil {
		err = e.Flush(now, emit)
	}
	return Taken, err
}

// partsOf returns how many records hold the counters of r: as many as one datagram has room for at most.
func (e *Encoder) partsOf(r *flow.Record) int {
	most := max(r.Packets, r.Octets)
	if most <= math.MaxUint32 {
		return 1
	}
	e.stats.Split++
	parts := (most-1)/math.MaxUint32 + 1
	if parts > uint64(e.max) {
		e.stats.Saturated++
		return e.max
	}
	return int(parts)
}

// put appends r in so many records.
func (e *Encoder) put(r *flow.Record, parts int, now time.Time) {
	first, last := e.times(r, now)
	for i := range parts {
		at := HeaderLen + (e.parts+i)*RecordLen
		b := Record(e.buf[at : at+RecordLen])
		clear(b)
		e.fill(b, r)
		b.SetCounts(share(r.Packets, i, parts), share(r.Octets, i, parts))
		b.SetTimes(first, last)
	}
	e.parts += parts
	e.records++
}

// share returns the i-th of n parts of a counter, which differ by at most one.
func share(total uint64, i, n int) uint32 {
	part := total / uint64(n)
	if uint64(i) < total%uint64(n) {
		part++
	}
	return uint32(min(part, math.MaxUint32))
}

// fill writes what the parts of a record share.
func (e *Encoder) fill(b Record, r *flow.Record) {
	copy(b.Src(), r.Src[12:])
	copy(b.Dst(), r.Dst[12:])
	in, out := r.InIf, r.OutIf
	if in > math.MaxUint16 || out > math.MaxUint16 {
		e.stats.Interfaces++
		if in > math.MaxUint16 {
			in = 0
		}
		if out > math.MaxUint16 {
			out = 0
		}
	}
	b.SetInterfaces(uint16(in), uint16(out))
	const icmp = 1
	if r.Proto == icmp {
		b.SetPorts(0, r.ICMPTypeCode)
	} else {
		b.SetPorts(r.SrcPort, r.DstPort)
	}
	b.SetIP(uint8(r.TCPFlags), r.Proto, r.ToS)
	if !r.Tunnel.Src.IsZero() || r.Segment.Kind() != flow.KindNone {
		e.stats.Omitted++
	}
}

// times returns the uptimes of the first and the last packet. A time that is not known is that of the other end, or now.
func (e *Encoder) times(r *flow.Record, now time.Time) (first, last uint32) {
	start, end := floorMS(r.StartNS), floorMS(r.EndNS)
	if end == 0 {
		end = max(start, 0)
	}
	if end == 0 {
		end = now.UnixMilli()
	}
	if start == 0 || start > end {
		start = end
	}
	if e.cfg.Boot.IsZero() && e.bootMS == 0 {
		const day = 24 * 3600 * 1000
		e.bootMS = start - day
	}
	e.newest = max(e.newest, end)
	if oldest := max(e.newest, e.clock(now)) - math.MaxUint32; start < oldest {
		e.stats.Clamped++
		start = oldest
		end = max(end, start)
	}
	return uint32(start - e.bootMS), uint32(end - e.bootMS)
}

func floorMS(ns int64) int64 { return ns / 1e6 }

// clock returns the time of a datagram that is finished now: not before any of its packets, so that no collector takes
// them for 49.7 days old.
func (e *Encoder) clock(now time.Time) int64 {
	if e.cfg.Boot.IsZero() {
		return e.newest
	}
	return max(e.newest, now.UnixMilli())
}

// Flush finishes the datagram in the making and gives it to emit; nothing happens when there is none. Its records count
// as sent whatever emit returns, so that a collector sees what it missed.
func (e *Encoder) Flush(now time.Time, emit func(msg []byte, records int) error) error {
	if e.parts == 0 {
		return nil
	}
	ms := e.clock(now)
	h := Header(e.buf[:])
	h.SetVersion()
	h.SetCount(e.parts)
	h.SetUptimeMS(uint32(ms - e.bootMS))
	h.SetUnix(uint32(ms/1000), uint32(ms%1000)*1e6)
	h.SetSequence(e.seq)
	h.SetEngine(e.cfg.EngineType, e.cfg.EngineID)
	h.SetSampling(SamplingNone, 0)
	if e.interval != 0 {
		h.SetSampling(e.cfg.SamplingMode, e.interval)
	}
	msg, n := e.buf[:HeaderLen+e.parts*RecordLen], e.records
	e.undo = e.seq
	e.seq += uint32(e.parts)
	e.parts, e.records = 0, 0
	if !e.cfg.Boot.IsZero() {
		e.newest = 0
	}
	return emit(msg, n)
}

// Retract throws away the datagram in the making, and the last finished one with it unless n is 0: it did not leave, and its
// sequence numbers are used again.
func (e *Encoder) Retract(n int) {
	e.parts, e.records = 0, 0
	if n > 0 {
		e.seq = e.undo
	}
}
