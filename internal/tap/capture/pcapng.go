package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"strings"

	"crosstap/internal/frame"
)

// Block types of pcapng (draft-ietf-opsawg-pcapng, section 4).
const (
	blockSection   = 0x0a0d0d0a
	blockInterface = 0x00000001
	blockPacket    = 0x00000002 // obsolete, still written by old programs
	blockSimple    = 0x00000003
	blockEnhanced  = 0x00000006
)

// Option codes.
const (
	optEnd         = 0
	optComment     = 1
	optIfName      = 2
	optIfTsresol   = 9
	optIfFcslen    = 13
	optIfTsoffset  = 14
	optPacketFlags = 2
)

const (
	byteOrderMagic = 0x1a2b3c4d
	blockOverhead  = 12       // type, length, length again
	maxBlock       = 16 << 20 // bytes of a block that is read; others are passed over at any length
	maxInterfaces  = 1 << 16
	maxNotes       = 255 // frames with comments in a batch
)

// pcapng reads pcapng files: any number of sections, each in its own byte order with its own interfaces.
type pcapng struct {
	swapped    bool
	started    bool // a section header was read
	interfaces []iface
	points     map[string]uint32 // of an interface's name (or number) and link type
	lastNS     int64             // for simple packet blocks, which carry no time
	count      int
	comments   [][]string                      // of frames of the last call
	named      func(point uint32, name string) // told of each new observation point whose interface has a name
	about      *about
}

// iface is what an interface description block says.
type iface struct {
	link     frame.LinkType
	snapLen  uint32
	fcsLen   int
	point    uint32
	exponent uint8 // of the time unit
	binary   bool  // the unit is 2^-exponent instead of 10^-exponent seconds
	offsetNS int64
	mul, div uint64 // nanoseconds = ticks*mul/div for the usual decimal units; mul 0 for others
}

func newPcapng() *pcapng { return &pcapng{points: map[string]uint32{}, about: new(about)} }

// form implements format: blocks of other kinds, options and padding may be between frames.
func (p *pcapng) form() frame.Form { return frame.OtherForm }

// notes implements format.
func (p *pcapng) notes() [][]string { return p.comments }

func (p *pcapng) u32(b []byte) uint32 {
	v := binary.LittleEndian.Uint32(b)
	if p.swapped {
		v = bits.ReverseBytes32(v)
	}
	return v
}

func (p *pcapng) u16(b []byte) uint16 {
	v := binary.LittleEndian.Uint16(b)
	if p.swapped {
		v = bits.ReverseBytes16(v)
	}
	return v
}

func (p *pcapng) decode(b []byte, fs []frame.Frame) ([]frame.Frame, int, int, int64, error) {
	off := 0
	p.comments = nil
	defer func() { p.count += len(fs) }()
	for len(fs) < cap(fs) && len(p.comments) < maxNotes && len(b)-off >= blockOverhead {
		kind, length, err := p.blockHeader(b[off:])
		if err != nil {
			return fs, off, 0, 0, err
		}
		if int64(length) > int64(len(b)-off) {
			if !wanted(kind, length) {
				p.passed(kind)
				return fs, off, 0, int64(length), nil
			}
			if length > maxBlock {
				return fs, off, 0, 0, fmt.Errorf("block of type 0x%08x has %d bytes, more than %d: the capture is damaged here", kind, length, maxBlock)
			}
			return fs, off, int(length), 0, nil
		}
		block := b[off : off+int(length)]
		if again := p.u32(block[length-4:]); again != length {
			return fs, off, 0, 0, fmt.Errorf("block of type 0x%08x: its length is %d at the start and %d at the end: the capture is damaged here", kind, length, again)
		}
		if wanted(kind, length) {
			if fs, err = p.block(kind, block[8:length-4:length-4], fs); err != nil {
				return fs, off, 0, 0, err
			}
		} else {
			p.passed(kind)
		}
		off += int(length)
	}
	return fs, off, 0, 0, nil
}

func wanted(kind, length uint32) bool {
	switch kind {
	case blockSection, blockInterface, blockPacket, blockSimple, blockEnhanced:
		return true
	case blockNames, blockSecrets, blockStatistics:
		return length <= maxAboutBlock
	}
	return false
}

// passed notes that a block is passed over.
func (p *pcapng) passed(kind uint32) {
	if kind == blockNames || kind == blockSecrets {
		p.about.leave()
	}
}

// blockHeader reads a block's type and length; a section header also sets the byte order.
func (p *pcapng) blockHeader(b []byte) (kind, length uint32, err error) {
	kind = p.u32(b)
	if kind == blockSection {
		switch m := binary.LittleEndian.Uint32(b[8:]); m {
		case byteOrderMagic:
			p.swapped = false
		case bits.ReverseBytes32(byteOrderMagic):
			p.swapped = true
		default:
			return 0, 0, fmt.Errorf("section header: byte-order magic %08x is not known", m)
		}
		p.started = true
	}
	if !p.started {
		return 0, 0, errors.New("no section header")
	}
	length = p.u32(b[4:])
	if length < blockOverhead || length%4 != 0 {
		// Lengths are multiples of 4; some old writers left the last block unpadded, which nobody
		// can tell from damage.
		return 0, 0, fmt.Errorf("block of type 0x%08x: a length of %d is not possible: the capture is damaged here", kind, length)
	}
	return kind, length, nil
}

func (p *pcapng) block(kind uint32, body []byte, fs []frame.Frame) ([]frame.Frame, error) {
	switch kind {
	case blockSection:
		return fs, p.section(body)
	case blockInterface:
		return fs, p.description(body)
	case blockEnhanced:
		return p.packet(body, false, fs)
	case blockPacket:
		return p.packet(body, true, fs)
	case blockSimple:
		return p.simple(body, fs)
	}
	p.aside(kind, body)
	return fs, nil
}

func (p *pcapng) section(body []byte) error {
	if len(body) < 16 {
		return fmt.Errorf("section header: %d bytes are too few", len(body))
	}
	major, minor := p.u16(body[4:]), p.u16(body[6:])
	if major != 1 || minor != 0 && minor != 2 { // 1.2 was once written and means 1.0
		return fmt.Errorf("section header: pcapng version %d.%d is not supported; 1.0 is current", major, minor)
	}
	p.interfaces = p.interfaces[:0]
	var said []frame.Option
	err := p.options(body[16:], func(code uint16, v []byte) error {
		said = p.kept(said, sectionOptions, code, v)
		return nil
	})
	p.about.begin(said)
	return err
}

func (p *pcapng) description(body []byte) error {
	if len(body) < 8 {
		return fmt.Errorf("interface description: %d bytes are too few", len(body))
	}
	if len(p.interfaces) >= maxInterfaces {
		return fmt.Errorf("interface description: more than %d interfaces in one section", maxInterfaces)
	}
	i := iface{link: frame.LinkType(p.u16(body)), snapLen: p.u32(body[4:]), exponent: 6}
	name := ""
	var said []frame.Option
	err := p.options(body[8:], func(code uint16, v []byte) error {
		said = p.kept(said, interfaceOptions, code, v)
		switch {
		case code == optIfName && len(v) > 0:
			name = strings.Clone(string(v))
		case code == optIfTsresol && len(v) == 1:
			i.exponent, i.binary = v[0]&0x7f, v[0]&0x80 != 0
		case code == optIfFcslen && len(v) == 1:
			i.fcsLen = int(v[0])
		case code == optIfTsoffset && len(v) == 8:
			i.offsetNS = p.seconds(v)
		case code == optIfTsresol, code == optIfFcslen, code == optIfTsoffset:
			return fmt.Errorf("interface description: option %d has %d bytes", code, len(v))
		}
		return nil
	})
	if err != nil {
		return err
	}
	i.scale()
	i.point = p.pointOf(name, len(p.interfaces), i.link)
	p.about.describe(i.point, i.link, said)
	p.interfaces = append(p.interfaces, i)
	return nil
}

// pointOf gives the same interface of several sections the same observation point.
func (p *pcapng) pointOf(name string, index int, link frame.LinkType) uint32 {
	shown := name
	if name == "" {
		name = fmt.Sprint("\x00", index)
	}
	key := fmt.Sprint(link, name)
	if point, ok := p.points[key]; ok {
		return point
	}
	point := uint32(len(p.points))
	if point < maxInterfaces {
		p.points[key] = point
		if p.named != nil && shown != "" {
			p.named(point, shown)
		}
	}
	return point
}

// options walks the options of a block and calls f for each. A list without its end mark is
// complete; an option that reaches beyond the block is an error.
func (p *pcapng) options(b []byte, f func(code uint16, v []byte) error) error {
	for len(b) >= 4 {
		code, n := p.u16(b), int(p.u16(b[2:]))
		if code == optEnd {
			return nil
		}
		b = b[4:]
		if n > len(b) {
			return fmt.Errorf("option %d has %d bytes, %d are left in its block", code, n, len(b))
		}
		if err := f(code, b[:n]); err != nil {
			return err
		}
		b = b[min(len(b), n+(-n&3)):]
	}
	return nil
}
