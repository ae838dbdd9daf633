package capture

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"crosstap/internal/frame"
)

// Magic numbers of classic capture files, as read in little-endian order.
const (
	magicMicro    = 0xa1b2c3d4
	magicNano     = 0xa1b23c4d
	magicModified = 0xa1b2cd34 // Kuznetzov's: 8 more bytes per record
)

const (
	pcapHeaderLen     = 24
	pcapRecordLen     = 16
	modifiedRecordLen = 24
)

// pcap reads classic capture files (draft-ietf-opsawg-pcap, sections 4 and 5) in both byte orders.
type pcap struct {
	swapped   bool // the file is big endian
	recordLen int
	unitNS    int64 // nanoseconds per unit of the second time field
	link      frame.LinkType
	fcsLen    int // bytes of frame check sequence at each frame's end
	lengths   lengthOrder
	count     int  // frames so far, for error texts
	odd       bool // the last frames have a time that is not written like that
}

// lengthOrder says which of a record's two lengths comes first. Writers before format version 2.3 had them
// the other way round; version 2.3 was written both ways.
type lengthOrder uint8

const (
	capturedFirst lengthOrder = iota
	originalFirst
	smallerIsCaptured
)

// newPcap reads the file header and returns its length.
func newPcap(b []byte) (*pcap, int, error) {
	p := &pcap{recordLen: pcapRecordLen, unitNS: 1000}
	magic := binary.LittleEndian.Uint32(b)
	if m := bits.ReverseBytes32(magic); m == magicMicro || m == magicNano || m == magicModified {
		magic, p.swapped = m, true
	}
	switch magic {
	case magicMicro:
	case magicNano:
		p.unitNS = 1
	case magicModified:
		p.recordLen = modifiedRecordLen
	default:
		return nil, 0, fmt.Errorf("offset 0: %x is not the start of a pcap or pcapng capture; Wireshark's editcap turns most others into one", b[:4])
	}
	if len(b) < pcapHeaderLen {
		return nil, 0, fmt.Errorf("offset 0: the file header needs %d bytes, %d are left: %w", pcapHeaderLen, len(b), ErrCut)
	}
	version := p.u32(b[4:])
	major, minor := version&0xffff, version>>16
	if p.swapped {
		major, minor = minor, major
	}
	if err := p.setVersion(major, minor); err != nil {
		return nil, 0, err
	}
	return p, pcapHeaderLen, p.setNetwork(p.u32(b[20:]))
}

func (p *pcap) setVersion(major, minor uint32) error {
	switch {
	case major == 2 && minor < 3:
		p.lengths = originalFirst
	case major == 2 && minor == 3, major == 543 && minor == 0:
		p.lengths = smallerIsCaptured
	case major == 2 && minor == 4:
	default:
		return fmt.Errorf("offset 4: pcap version %d.%d is not supported; 2.4 is current", major, minor)
	}
	return nil
}

// setNetwork splits the last word of the file header: link type, reserved bits, and whether and how much
// frame check sequence there is (in units of 16 bits).
func (p *pcap) setNetwork(n uint32) error {
	if n&0x03ff0000 != 0 {
		return fmt.Errorf("offset 20: reserved bits of the link type 0x%08x are not zero", n)
	}
	p.link = frame.LinkType(n)
	if n&0x04000000 != 0 {
		p.fcsLen = int(n>>28) * 2
	}
	return nil
}

func (p *pcap) u32(b []byte) uint32 {
	v := binary.LittleEndian.Uint32(b)
	if p.swapped {
		v = bits.ReverseBytes32(v)
	}
	return v
}

func (p *pcap) decode(b []byte, fs []frame.Frame) (_ []frame.Frame, off, need int, _ int64, err error) {
	odd, usual := false, p.usual()
	for len(fs) < cap(fs) && len(b)-off >= p.recordLen {
		h := b[off : off+pcapRecordLen : off+pcapRecordLen]
		le := binary.LittleEndian
		sec, part, captured, original := le.Uint32(h), le.Uint32(h[4:]), le.Uint32(h[8:]), le.Uint32(h[12:])
		if !usual {
			sec, part, captured, original = p.other(sec, part, captured, original)
		}
		if captured > MaxFrame {
			err = fmt.Errorf("frame %d: %d bytes captured are more than a frame can have (%d): the capture is damaged here", p.count+len(fs)+1, captured, MaxFrame)
			break
		}
		start := off + p.recordLen
		end := start + int(captured)
		if end > len(b) {
			need = end - off
			break
		}
		fs = fs[:len(fs)+1]
		f := &fs[len(fs)-1]
		// Field by field: a composite is made elsewhere first and copied from there, which doubles what a frame takes.
		*f = frame.Frame{}
		f.Data = b[start:end:end]
		f.OrigLen = int(original)
		ns := int64(part) * p.unitNS
		f.TimeNS = int64(sec)*1e9 + ns
		odd = odd || ns >= 1e9
		f.Link = p.link
		f.Dir = frame.Unknown
		if !usual {
			if p.recordLen == modifiedRecordLen {
				f.Dir = packetType(b[off+22])
			}
			finish(f, p.fcsLen)
		}
		off = end
	}
	p.count += len(fs)
	p.odd = odd
	return fs, off, need, 0, err
}

// usual reports whether records are what nearly all files have: nothing in them has to be turned round or taken off.
func (p *pcap) usual() bool {
	return !p.swapped && p.recordLen == pcapRecordLen && p.lengths == capturedFirst && p.link == frame.LinkEthernet && p.fcsLen == 0
}

// other returns the words of a record's header in their usual order and byte order.
func (p *pcap) other(sec, part, captured, original uint32) (uint32, uint32, uint32, uint32) {
	if p.swapped {
		sec, part, captured, original = bits.ReverseBytes32(sec), bits.ReverseBytes32(part), bits.ReverseBytes32(captured), bits.ReverseBytes32(original)
	}
	if p.lengths == originalFirst || p.lengths == smallerIsCaptured && captured > original {
		captured, original = original, captured
	}
	return sec, part, captured, original
}

// form implements format.
func (p *pcap) form() frame.Form {
	switch {
	case p.odd, p.swapped, p.recordLen != pcapRecordLen, p.lengths != capturedFirst, p.fcsLen != 0:
		return frame.OtherForm
	case p.unitNS == 1:
		return frame.PcapNano
	}
	return frame.PcapMicro
}

// notes implements format.
func (p *pcap) notes() [][]string { return nil }

// finish completes a frame: its direction when the link header tells it, and without its frame
// check sequence.
func finish(f *frame.Frame, fcsLen int) {
	if d, ok := cookedDirection(f); ok {
		f.Dir = d
	}
	if fcsLen > 0 && f.OrigLen > fcsLen {
		f.OrigLen -= fcsLen
		f.Data = f.Data[:min(len(f.Data), f.OrigLen)]
	}
}

// cookedDirection reads the packet type of a Linux cooked header.
func cookedDirection(f *frame.Frame) (frame.Direction, bool) {
	switch {
	case f.Link == frame.LinkSLL && len(f.Data) >= 2:
		return packetType(f.Data[1]), true
	case f.Link == frame.LinkSLL2 && len(f.Data) >= 11:
		return packetType(f.Data[10]), true
	}
	return frame.Unknown, false
}

// packetType gives the direction for a value of sll_pkttype (packet(7)).
func packetType(t byte) frame.Direction {
	switch {
	case t == 4:
		return frame.Egress
	case t < 4:
		return frame.Ingress
	}
	return frame.Unknown
}
