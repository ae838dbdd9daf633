package deliver

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"crosstap/internal/frame"
)

// pcap writes a classic capture file (draft-ietf-opsawg-pcap, sections 4 and 5) in little-endian order.
type pcap struct {
	cfg     *FileConfig
	started bool
	kind    frame.LinkType
	unitNS  int64 // nanoseconds per unit of the second time field
	frames  uint64
}

const (
	pcapHeaderLen = 24
	pcapRecordLen = 16

	magicMicro  = 0xa1b2c3d4
	magicNano   = 0xa1b23c4d
	pcapVersion = 4<<16 | 2 // 2.4

	secondNS = 1_000_000_000
)

func (p *pcap) lead(b []byte) []byte { return b } // the first frame decides the link type

func (p *pcap) begin(b []byte, kind frame.LinkType) []byte {
	p.started, p.kind, p.unitNS = true, kind, 1
	magic := uint32(magicNano)
	if p.cfg.Unit != nil && p.cfg.Unit() == time.Microsecond {
		magic, p.unitNS = magicMicro, 1000
	}
	le := binary.LittleEndian
	b = le.AppendUint32(b, magic)
	b = le.AppendUint32(b, pcapVersion)
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, uint32(p.cfg.SnapLen))
	return le.AppendUint32(b, uint32(kind))
}

// frame appends a record. Times outside of 1970 to 2106 become the nearest inside.
func (p *pcap) frame(b []byte, f *frame.Frame, _ [][]string) ([]byte, error) {
	if !p.started {
		b = p.begin(b, f.Link)
	}
	if f.Link != p.kind {
		return b, fmt.Errorf("frame %d has link type %d, the ones before have %d, and a pcap file has one: write pcapng: instead", p.frames+1, f.Link, p.kind)
	}
	p.frames++
	at, n := len(b), len(f.Data)
	b = slices.Grow(b, pcapRecordLen+n)
	h := b[at : at+pcapRecordLen]
	ns := min(max(f.TimeNS, 0), 1<<32*secondNS-1)
	le := binary.LittleEndian
	le.PutUint32(h, uint32(ns/secondNS))
	le.PutUint32(h[4:], uint32(ns%secondNS/p.unitNS))
	le.PutUint32(h[8:], uint32(n))
	le.PutUint32(h[12:], uint32(f.OrigLen))
	return append(b[:at+pcapRecordLen], f.Data...), nil
}

// takes implements encoder.
func (p *pcap) takes(form frame.Form, kind frame.LinkType, n int) bool {
	if !p.started || kind != p.kind || !(form == frame.PcapMicro && p.unitNS == 1000 || form == frame.PcapNano && p.unitNS == 1) {
		return false
	}
	p.frames += uint64(n)
	return true
}

// stored implements encoder.
func (p *pcap) stored(records []byte, frames []frame.Frame) (n int, same []byte) {
	if !p.started {
		return 0, nil
	}
	from, to := 0, 0
	for i := range frames {
		f := &frames[i]
		at := f.Stored(records) - pcapRecordLen
		if at < 0 || n > 0 && at != to || f.Link != p.kind || !p.same(records[at:], f) {
			break
		}
		if n == 0 {
			from = at
		}
		n, to = n+1, at+pcapRecordLen+len(f.Data)
	}
	p.frames += uint64(n)
	return n, records[from:to]
}

// same reports whether b begins with the record header that frame would write.
func (p *pcap) same(b []byte, f *frame.Frame) bool {
	h := b[:pcapRecordLen]
	le := binary.LittleEndian
	sub := int64(le.Uint32(h[4:])) * p.unitNS
	return sub < secondNS && int64(le.Uint32(h))*secondNS+sub == f.TimeNS && le.Uint32(h[8:]) == uint32(len(f.Data)) && le.Uint32(h[12:]) == uint32(f.OrigLen)
}

// foot completes a file without frames.
func (p *pcap) foot(b []byte) []byte {
	if !p.started {
		b = p.begin(b, frame.LinkEthernet)
	}
	return b
}

func (p *pcap) whole(b []byte) (frames, n int) {
	if len(b) >= pcapHeaderLen && binary.LittleEndian.Uint32(b[4:]) == pcapVersion {
		if magic := binary.LittleEndian.Uint32(b); magic == magicNano || magic == magicMicro {
			n = pcapHeaderLen
		}
	}
	for len(b)-n >= pcapRecordLen {
		size := pcapRecordLen + int(binary.LittleEndian.Uint32(b[n+8:]))
		if size > len(b)-n {
			break
		}
		frames, n = frames+1, n+size
	}
	return frames, n
}

// again implements encoder.
func (p *pcap) again() { *p = pcap{cfg: p.cfg} }

// skip implements encoder. The format has no place for what is missing.
func (p *pcap) skip(uint64) {}
