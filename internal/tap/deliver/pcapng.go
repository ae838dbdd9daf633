package deliver

import (
	"encoding/binary"
	"slices"
	"time"

	"crosstap/internal/frame"
)

// Blocks and options of pcapng that are written (draft-ietf-opsawg-pcapng, section 4), all in little-endian order.
const (
	blockSection    = 0x0a0d0d0a
	blockInterface  = 1
	blockStatistics = 5
	blockEnhanced   = 6

	optComment = 1

	optHardware, optOS, optUserAppl = 2, 3, 4

	optIfName, optIfTsresol, optIfFilter = 2, 9, 11
	optIfIPv4, optIfEUI                  = 4, 7 // the first and the last address of an interface

	optFlags, optDropCount = 2, 4

	optStart, optEnd, optReceived, optIfDropped, optAccepted, optOSDropped, optDelivered = 2, 3, 4, 5, 6, 7, 8
)

// pcapng writes one section: an interface description ahead of the first frame of each interface and link type,
// and statistics of all at the end.
type pcapng struct {
	cfg   *FileConfig
	ids   map[link]uint32
	all   []described
	last  link // the interface of the last frame
	id    uint32
	known bool // last and id are set
	start uint64
	begun bool // the section header is written
	aside int  // blocks beside frames that are written

	missing uint64 // frames lost since the last one, which the next one tells (epb_dropcount)
}

// link is what has a description of its own.
type link struct {
	point uint32
	kind  frame.LinkType
}

// described is an interface of the file.
type described struct {
	link
	frames uint64
}

func newPcapng(c *FileConfig) *pcapng { return &pcapng{cfg: c, ids: map[link]uint32{}} }

// lead implements encoder.
func (p *pcapng) lead(b []byte) []byte {
	if !p.begun {
		if p.cfg.Section != nil {
			if _, known := p.cfg.Section(); !known {
				return b
			}
		}
		b = p.head(b)
	}
	if len(p.all) == 0 {
		return b // Wireshark 4.0 looks for interfaces up to the first block of another kind
	}
	return p.beside(b)
}

// beside appends the blocks that stand beside frames, as far as they are known and not yet written.
func (p *pcapng) beside(b []byte) []byte {
	if p.cfg.Beside == nil || p.cfg.Masked {
		return b
	}
	for _, x := range p.cfg.Beside(p.aside) {
		b = binary.LittleEndian.AppendUint32(b, x.Kind)
		n := uint32(len(x.Body) + 12)
		b = append(binary.LittleEndian.AppendUint32(b, n), x.Body...)
		b = binary.LittleEndian.AppendUint32(b, n)
		p.aside++
	}
	return b
}

// head writes the section header. Its length stays open, as in every file that may still grow. Where the capture that is read says what made
// it, that holds for this one, too.
func (p *pcapng) head(b []byte) []byte {
	p.start, p.begun = uint64(time.Now().UnixNano()), true
	le := binary.LittleEndian
	b, at := begin(b, blockSection)
	b = le.AppendUint32(b, 0x1a2b3c4d)
	b = le.AppendUint32(b, 1) // version 1.0
	b = le.AppendUint64(b, 1<<64-1)
	var said []frame.Option
	if p.cfg.Section != nil {
		said, _ = p.cfg.Section()
	}
	if len(said) == 0 {
		b = text(b, optHardware, p.cfg.Hardware)
		b = text(b, optOS, p.cfg.OS)
	}
	if !slices.ContainsFunc(said, func(o frame.Option) bool { return o.Code == optUserAppl }) {
		b = text(b, optUserAppl, p.cfg.Program)
	}
	for _, o := range said {
		b = option(b, o.Code, o.Value...)
	}
	if p.cfg.Tap != "" {
		b = text(b, optComment, "tap: "+p.cfg.Tap)
	}
	if p.cfg.Filter != "" {
		b = text(b, optComment, "filter: "+p.cfg.Filter)
	}
	return end(b, at)
}

// begin starts a block and returns where, for end.
func begin(b []byte, kind uint32) ([]byte, int) {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(b, kind), 0), len(b)
}

// end closes the options and the block that began at.
func end(b []byte, at int) []byte {
	b = append(b, 0, 0, 0, 0)
	n := uint32(len(b) - at + 4)
	binary.LittleEndian.PutUint32(b[at+4:], n)
	return binary.LittleEndian.AppendUint32(b, n)
}

// option appends an option with its padding.
func option(b []byte, code uint16, v ...byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, code)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(v)))
	return pad(append(b, v...), len(v))
}

func pad(b []byte, n int) []byte { return append(b, 0, 0, 0)[:len(b)+(-n&3)] }

// text appends an option with a text, cut to what an option holds; none for an empty one.
func text(b []byte, code uint16, s string) []byte {
	const most = 1<<16 - 1
	if s == "" {
		return b
	}
	return option(b, code, []byte(s[:min(len(s), most)])...)
}

func number(b []byte, code uint16, n uint64) []byte {
	return option(b, code, binary.LittleEndian.AppendUint64(nil, n)...)
}

// describe appends the description of an interface that is new.
func (p *pcapng) describe(b []byte, l link) []byte {
	p.last, p.known = l, true
	if id, ok := p.ids[l]; ok {
		p.id = id
		return b
	}
	p.id = uint32(len(p.all))
	p.ids[l] = p.id
	p.all = append(p.all, described{link: l})
	b, at := begin(b, blockInterface)
	b = binary.LittleEndian.AppendUint16(b, uint16(l.kind))
	b = append(b, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(p.cfg.SnapLen))
	if p.cfg.Interface != nil {
		b = text(b, optIfName, p.cfg.Interface(l.point))
	}
	b = option(b, optIfTsresol, 9)
	if p.cfg.Filter != "" {
		b = text(b, optIfFilter, "\x00"+p.cfg.Filter) // 0: an expression of libpcap's kind
	}
	if p.cfg.Describe != nil {
		b = p.said(b, p.cfg.Describe(l.point))
	}
	return p.beside(end(b, at))
}

// said appends what the capture that is read says of an interface. A second filter becomes a comment, as there is one option.
func (p *pcapng) said(b []byte, options []frame.Option) []byte {
	for _, o := range options {
		switch {
		case p.cfg.Masked && o.Code >= optIfIPv4 && o.Code <= optIfEUI:
		case p.cfg.Filter != "" && o.Code == optIfFilter:
			if len(o.Value) > 1 && o.Value[0] == 0 {
				b = text(b, optComment, "captured with filter: "+string(o.Value[1:]))
			}
		default:
			b = option(b, o.Code, o.Value...)
		}
	}
	return b
}

const (
	blockFixed = 28 // bytes of an enhanced packet block before the data
	flagsLen   = 8
)

// frame appends an enhanced packet block. Times before 1970 become 1970.
func (p *pcapng) frame(b []byte, f *frame.Frame, notes [][]string) ([]byte, error) {
	if l := (link{f.Point, f.Link}); l != p.last || !p.known {
		b = p.describe(b, l)
	}
	p.all[p.id].frames++
	at, n := len(b), len(f.Data)
	b = slices.Grow(b, blockFixed+n+3+12+12+4)
	h := b[at : at+blockFixed]
	le := binary.LittleEndian
	ns := uint64(max(f.TimeNS, 0))
	le.PutUint32(h, blockEnhanced)
	le.PutUint32(h[8:], p.id)
	le.PutUint32(h[12:], uint32(ns>>32))
	le.PutUint32(h[16:], uint32(ns))
	le.PutUint32(h[20:], uint32(n))
	le.PutUint32(h[24:], uint32(f.OrigLen))
	b = pad(append(b[:at+blockFixed], f.Data...), n)
	options := len(b)
	if f.Tag != 0 && p.cfg.Label != nil {
		b = text(b, optComment, p.cfg.Label(f.Tag))
	}
	if i := int(f.Note); i > 0 && i <= len(notes) {
		for _, comment := range notes[i-1] {
			b = text(b, optComment, comment)
		}
	}
	b = flags(b, f.Dir)
	if p.missing > 0 {
		b = le.AppendUint64(append(b, optDropCount, 0, 8, 0), p.missing)
		p.missing = 0
	}
	if len(b) > options {
		b = append(b, 0, 0, 0, 0)
	}
	total := uint32(len(b) - at + 4)
	le.PutUint32(b[at+4:], total)
	return le.AppendUint32(b, total), nil
}

// takes implements encoder.
func (p *pcapng) takes(frame.Form, frame.LinkType, int) bool { return false }

// stored implements encoder.
func (p *pcapng) stored(records []byte, frames []frame.Frame) (n int, same []byte) {
	if !p.known || p.missing > 0 {
		return 0, nil
	}
	from, to := 0, 0
	for i := range frames {
		f := &frames[i]
		at := f.Stored(records) - blockFixed
		if at < 0 || n > 0 && at != to || (link{f.Point, f.Link}) != p.last || f.Tag != 0 && p.cfg.Label != nil {
			break
		}
		size := p.same(records[at:], f)
		if size == 0 {
			break
		}
		if n == 0 {
			from = at
		}
		n, to = n+1, at+size
	}
	p.all[p.id].frames += uint64(n)
	return n, records[from:to]
}

// same returns the length of the block at the start of b, which has the bytes of f in their place; 0 when frame would write another.
func (p *pcapng) same(b []byte, f *frame.Frame) int {
	n := len(f.Data)
	options := blockFixed + n + -n&3
	size := options + 4
	if f.Dir <= frame.Egress {
		size += flagsLen + 4
	}
	if size > len(b) {
		return 0
	}
	le := binary.LittleEndian
	if le.Uint32(b) != blockEnhanced || le.Uint32(b[4:]) != uint32(size) || le.Uint32(b[8:]) != p.id ||
		uint64(le.Uint32(b[12:]))<<32|uint64(le.Uint32(b[16:])) != uint64(max(f.TimeNS, 0)) ||
		le.Uint32(b[20:]) != uint32(n) || le.Uint32(b[24:]) != uint32(f.OrigLen) || le.Uint32(b[size-4:]) != uint32(size) {
		return 0
	}
	if fill := uint(-n & 3); fill > 0 && le.Uint32(b[options-4:])>>(32-8*fill) != 0 {
		return 0
	}
	if o := b[options:]; f.Dir <= frame.Egress && (le.Uint32(o) != optFlags|4<<16 || le.Uint32(o[4:]) != uint32(f.Dir)+1 || le.Uint32(o[8:]) != 0) {
		return 0
	}
	return size
}

// flags appends the direction: 1 inbound, 2 outbound; nothing when it is not known.
func flags(b []byte, d frame.Direction) []byte {
	if d > frame.Egress {
		return b
	}
	return append(b, optFlags, 0, 4, 0, byte(d)+1, 0, 0, 0)
}

// foot appends the statistics of each interface.
func (p *pcapng) foot(b []byte) []byte {
	if b = p.lead(b); !p.begun {
		b = p.head(b)
	}
	if p.cfg.Quiet != nil {
		for point, kind := range p.cfg.Quiet() {
			b = p.describe(b, link{uint32(point), kind})
		}
	}
	b = p.beside(b)
	now := uint64(time.Now().UnixNano())
	le := binary.LittleEndian
	for id := range p.all {
		d := &p.all[id]
		var at int
		b, at = begin(b, blockStatistics)
		b = le.AppendUint32(b, uint32(id))
		b = le.AppendUint32(b, uint32(now>>32))
		b = le.AppendUint32(b, uint32(now))
		b = option(b, optStart, words(p.start)...)
		b = option(b, optEnd, words(now)...)
		if p.cfg.Counts != nil {
			c := p.cfg.Counts(d.point)
			b = number(b, optReceived, max(c.Received, d.frames+c.Lost))
			b = number(b, optIfDropped, c.Missed)
			b = number(b, optAccepted, max(c.Matched, d.frames))
			b = number(b, optOSDropped, c.Lost)
		}
		b = number(b, optDelivered, d.frames)
		b = end(b, at)
	}
	return b
}

// words writes a time as its high and its low 32 bits.
func words(ns uint64) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, uint32(ns>>32)), uint32(ns))
}

func (p *pcapng) whole(b []byte) (frames, n int) {
	for len(b)-n >= 12 {
		size := int(binary.LittleEndian.Uint32(b[n+4:]))
		if size > len(b)-n {
			break
		}
		if binary.LittleEndian.Uint32(b[n:]) == blockEnhanced {
			frames++
		}
		n += size
	}
	return frames, n
}

// again implements encoder.
func (p *pcapng) again() { *p = *newPcapng(p.cfg) }

// skip implements encoder.
func (p *pcapng) skip(n uint64) { p.missing += n }
