package capture

import (
	"fmt"
	"math"
	"math/bits"

	"crosstap/internal/frame"
)

// packet reads an enhanced packet block or an obsolete packet block, which differ in their first
// four bytes.
func (p *pcapng) packet(body []byte, obsolete bool, fs []frame.Frame) ([]frame.Frame, error) {
	if len(body) < 20 {
		return fs, fmt.Errorf("frame %d: a packet block of %d bytes is too short", p.count+len(fs)+1, len(body))
	}
	id := p.u32(body)
	if obsolete {
		id = uint32(p.u16(body)) // the other two bytes count drops
	}
	if uint64(id) >= uint64(len(p.interfaces)) {
		return fs, fmt.Errorf("frame %d: interface %d is not described; the section has %d", p.count+len(fs)+1, id, len(p.interfaces))
	}
	i := &p.interfaces[id]
	captured, original := p.u32(body[12:]), p.u32(body[16:])
	if captured > MaxFrame || int(captured) > len(body)-20 {
		return fs, fmt.Errorf("frame %d: %d bytes captured, but its block has room for %d", p.count+len(fs)+1, captured, len(body)-20)
	}
	ticks := uint64(p.u32(body[4:]))<<32 | uint64(p.u32(body[8:]))
	end := 20 + int(captured)
	fs = fs[:len(fs)+1]
	f := &fs[len(fs)-1]
	*f = frame.Frame{} // and field by field, as in pcap.decode
	f.Data = body[20:end:end]
	f.OrigLen = int(original)
	f.TimeNS = i.timeNS(ticks)
	f.Point = i.point
	f.Link = i.link
	f.Dir = frame.Unknown
	p.lastNS = f.TimeNS
	fcs := i.fcsLen
	if padded := min(len(body), end+(-int(captured)&3)); len(body)-padded >= 8 {
		if flags := p.packetOptions(body[padded:], f); flags != 0 {
			f.Dir = [4]frame.Direction{frame.Unknown, frame.Ingress, frame.Egress, frame.Unknown}[flags&3]
			if n := int(flags >> 5 & 15); n > 0 {
				fcs = n
			}
		}
	}
	if i.link != frame.LinkEthernet || fcs != 0 {
		finish(f, fcs)
	}
	return fs, nil
}

// packetOptions returns the flags of a frame and notes its comments; these options have the same codes in both kinds of packet block. Options are a
// hint: damage in them is passed over.
func (p *pcapng) packetOptions(b []byte, f *frame.Frame) (flags uint32) {
	for len(b) >= 8 {
		code, n := p.u16(b), int(p.u16(b[2:]))
		switch {
		case code == optEnd:
			return flags
		case code == optPacketFlags && n == 4 && flags == 0:
			flags = p.u32(b[4:])
		case code == optComment && n > 0 && 4+n <= len(b):
			p.note(f, string(b[4:4+n]))
		}
		b = b[min(len(b), 4+n+(-n&3)):]
	}
	return flags
}

// note adds a comment to those of a frame.
func (p *pcapng) note(f *frame.Frame, text string) {
	if f.Note == 0 {
		p.comments = append(p.comments, nil)
		f.Note = uint8(len(p.comments))
	}
	of := &p.comments[f.Note-1]
	*of = append(*of, text)
}

// simple reads a simple packet block: it belongs to the first interface and has no time of its own.
func (p *pcapng) simple(body []byte, fs []frame.Frame) ([]frame.Frame, error) {
	if len(body) < 4 {
		return fs, fmt.Errorf("frame %d: a simple packet block of %d bytes is too short", p.count+len(fs)+1, len(body))
	}
	if len(p.interfaces) == 0 {
		return fs, fmt.Errorf("frame %d: a simple packet block, but the section describes no interface", p.count+len(fs)+1)
	}
	i := &p.interfaces[0]
	original := p.u32(body)
	captured := original
	if i.snapLen > 0 {
		captured = min(captured, i.snapLen)
	}
	if captured > MaxFrame || int(captured) > len(body)-4 {
		return fs, fmt.Errorf("frame %d: %d bytes captured, but its block has room for %d", p.count+len(fs)+1, captured, len(body)-4)
	}
	end := 4 + int(captured)
	fs = fs[:len(fs)+1]
	f := &fs[len(fs)-1]
	*f = frame.Frame{
		Data: body[4:end:end], OrigLen: int(original), TimeNS: p.lastNS,
		Point: i.point, Link: i.link, Dir: frame.Unknown,
	}
	if i.link != frame.LinkEthernet || i.fcsLen != 0 {
		finish(f, i.fcsLen)
	}
	return fs, nil
}

// scale prepares timeNS for the interface's time unit.
func (i *iface) scale() {
	if i.binary || i.exponent > 18 {
		return
	}
	i.mul, i.div = 1, 1
	for e := i.exponent; e < 9; e++ {
		i.mul *= 10
	}
	for e := i.exponent; e > 9; e-- {
		i.div *= 10
	}
}

// timeNS converts a time stamp to nanoseconds; what does not fit becomes the nearest that does.
func (i *iface) timeNS(ticks uint64) int64 {
	var ns uint64
	switch {
	case i.mul != 0:
		hi, lo := bits.Mul64(ticks, i.mul)
		if hi != 0 {
			return math.MaxInt64
		}
		ns = lo
		if i.div != 1 {
			ns /= i.div
		}
	case i.binary:
		ns = binaryTicks(ticks, uint(i.exponent))
	default:
		ns = 0 // units below 10^-18 s: 64 bits of them are less than half a minute after the epoch
		if i.exponent < 29 {
			for e := i.exponent; e > 9; e-- {
				ticks /= 10
			}
			ns = ticks
		}
	}
	if ns > math.MaxInt64 {
		return math.MaxInt64
	}
	return addSaturated(int64(ns), i.offsetNS)
}

// binaryTicks converts units of 2^-exp seconds to nanoseconds, rounding down.
func binaryTicks(ticks uint64, exp uint) uint64 {
	hi, lo := bits.Mul64(ticks, 1e9)
	switch {
	case exp == 0:
		if hi != 0 {
			return math.MaxUint64
		}
		return lo
	case exp < 64:
		if hi>>exp != 0 {
			return math.MaxUint64
		}
		return hi<<(64-exp) | lo>>exp
	case exp < 128:
		return hi >> (exp - 64)
	}
	return 0
}

// seconds reads a signed 64-bit number of seconds and returns nanoseconds.
func (p *pcapng) seconds(v []byte) int64 {
	hi, lo := p.u32(v), p.u32(v[4:])
	if !p.swapped {
		hi, lo = lo, hi
	}
	s := int64(uint64(hi)<<32 | uint64(lo))
	const limit = math.MaxInt64 / 1_000_000_000
	return min(max(s, -limit), limit) * 1e9
}

func addSaturated(a, b int64) int64 {
	c := a + b
	switch {
	case b > 0 && c < a:
		return math.MaxInt64
	case b < 0 && c > a:
		return math.MinInt64
	}
	return c
}
