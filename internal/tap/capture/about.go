package capture

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"sync"

	"crosstap/internal/frame"
)

// Blocks and options that say something beside frames (draft-ietf-opsawg-pcapng, sections 4.2, 4.5 and 4.7).
const (
	blockNames      = 0x00000004
	blockStatistics = 0x00000005
	blockSecrets    = 0x0000000a

	optIfSpeed, optIfTxSpeed, optIfRxSpeed = 8, 16, 17
	optIfDrop, optOSDrop                   = 5, 7
)

// What is kept at most of what a capture says beside its frames.
const (
	maxAboutBlock = 1 << 20 // bytes of a block
	maxAbout      = 16 << 20
)

// sectionOptions and interfaceOptions are those that hold for a copy of the capture, too. Units, offsets of time and the length of a check sequence do
// not: frames are read without them.
var (
	sectionOptions   = []uint16{optComment, 2, 3, 4}                                                           // hardware, os, userappl
	interfaceOptions = []uint16{optComment, 3, 4, 5, 6, 7, optIfSpeed, 11, 12, 15, optIfTxSpeed, optIfRxSpeed} // description, addresses, filter, os, hardware
)

// about is what a capture file says beside its frames. It is safe for concurrent use: a file is read ahead of who writes it.
type about struct {
	mu      sync.Mutex
	known   bool           // what the first section says
	section []frame.Option // of several sections the first one's, as one section is written
	points  []described    // by point
	blocks  []frame.Block
	bytes   int // of all this
	left    int // blocks and options that were damaged or too many
}

// described is what a capture says of an interface.
type described struct {
	link    frame.LinkType
	options []frame.Option
	drops   drops // of this section
	before  drops // of those before
}

// drops are frames that were lost when the capture was made.
type drops struct{ lost, missed uint64 }

// begin takes over the header of a section; none of a format that has no sections.
func (a *about) begin(options []frame.Option) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.known {
		a.known, a.section = true, a.room(options)
	}
	for i := range a.points {
		p := &a.points[i]
		p.before.lost, p.before.missed, p.drops = p.before.lost+p.drops.lost, p.before.missed+p.drops.missed, drops{}
	}
}

// describe takes over what is said of a point's interface the first time.
func (a *about) describe(point uint32, link frame.LinkType, options []frame.Option) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if int(point) == len(a.points) {
		a.points = append(a.points, described{link: link, options: a.room(options)})
	}
}

// room returns options if there is room for them, which it takes.
func (a *about) room(options []frame.Option) []frame.Option {
	n := 0
	for _, o := range options {
		n += len(o.Value)
	}
	if a.bytes+n > maxAbout {
		a.left++
		return nil
	}
	a.bytes += n
	return options
}

// add takes over a block; nil stands for one that is damaged.
func (a *about) add(kind uint32, body []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if body == nil || a.bytes+len(body) > maxAbout {
		a.left++
		return
	}
	a.bytes += len(body)
	a.blocks = append(a.blocks, frame.Block{Kind: kind, Body: body})
}

func (a *about) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.left++
}

func (a *about) drop(point uint32, d drops) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if int(point) < len(a.points) {
		a.points[point].drops = d
	}
}

// Section returns what the capture's first section says of itself: comments, hardware, system and program; false as long as that was not
// read. A classic file says nothing. It is safe for concurrent use, as are the next four.
func (f *File) Section() ([]frame.Option, bool) {
	f.about.mu.Lock()
	defer f.about.mu.Unlock()
	return f.about.section, f.about.known
}

// Described returns what the capture says of the interface of a point, besides its name.
func (f *File) Described(point uint32) []frame.Option {
	f.about.mu.Lock()
	defer f.about.mu.Unlock()
	if int(point) >= len(f.about.points) {
		return nil
	}
	return f.about.points[point].options
}

// Beside returns the blocks of names and of secrets that were read, from the nth on: each is there before the frames behind it.
func (f *File) Beside(n int) []frame.Block {
	f.about.mu.Lock()
	defer f.about.mu.Unlock()
	return f.about.blocks[min(n, len(f.about.blocks)):]
}

// Links returns the link types of the points that were described, from 0 on.
func (f *File) Links() (all []frame.LinkType) {
	f.about.mu.Lock()
	defer f.about.mu.Unlock()
	for _, p := range f.about.points {
		all = append(all, p.link)
	}
	return all
}

// Dropped returns how many frames were lost by the system and by the interface of a point when the capture was made, as far as it tells.
func (f *File) Dropped(point uint32) (lost, missed uint64) {
	f.about.mu.Lock()
	defer f.about.mu.Unlock()
	if int(point) >= len(f.about.points) {
		return 0, 0
	}
	p := &f.about.points[point]
	return p.before.lost + p.drops.lost, p.before.missed + p.drops.missed
}

// LeftOut returns how many blocks and descriptions were not kept: they were damaged, or too large.
func (f *File) LeftOut() int {
	f.about.mu.Lock()
	defer f.about.mu.Unlock()
	return f.about.left
}

// kept appends a copy of an option if its code is among those that are kept.
func (p *pcapng) kept(all []frame.Option, codes []uint16, code uint16, v []byte) []frame.Option {
	if !slices.Contains(codes, code) {
		return all
	}
	v = slices.Clone(v)
	if p.swapped && len(v) == 8 && (code == optIfSpeed || code == optIfTxSpeed || code == optIfRxSpeed) {
		slices.Reverse(v)
	}
	return append(all, frame.Option{Code: code, Value: v})
}

// aside reads a block that is about frames: names, secrets and statistics. Damage in it does no harm to frames.
func (p *pcapng) aside(kind uint32, body []byte) {
	switch kind {
	case blockNames:
		p.about.add(kind, p.names(body))
	case blockSecrets:
		p.about.add(kind, p.secrets(body))
	case blockStatistics:
		p.statistics(body)
	}
}

// secrets returns a decryption secrets block in little-endian order, nil when it is damaged.
func (p *pcapng) secrets(body []byte) []byte {
	if len(body) < 8 || uint64(p.u32(body[4:])) > uint64(len(body)-8) {
		return nil
	}
	n := p.u32(body[4:])
	b := binary.LittleEndian.AppendUint32(nil, p.u32(body))
	b = binary.LittleEndian.AppendUint32(b, n)
	b = append(b, body[8:8+n]...)
	return append(b, make([]byte, -n&3)...)
}

// names returns a name resolution block in little-endian order and without options, nil when it is damaged.
func (p *pcapng) names(body []byte) (b []byte) {
	for at := 0; len(body)-at >= 4; {
		kind, n := p.u16(body[at:]), int(p.u16(body[at+2:]))
		b = binary.LittleEndian.AppendUint16(b, kind)
		b = binary.LittleEndian.AppendUint16(b, uint16(n))
		if kind == 0 {
			return b
		}
		if at += 4; n > len(body)-at {
			return nil
		}
		b = append(append(b, body[at:at+n]...), make([]byte, -n&3)...)
		at = min(len(body), at+n+(-n&3))
	}
	return nil
}

// statistics reads what was lost. Counts are since the capture's start: the last ones hold.
func (p *pcapng) statistics(body []byte) {
	if len(body) < 12 || uint64(p.u32(body)) >= uint64(len(p.interfaces)) {
		return
	}
	var d drops
	_ = p.options(body[12:], func(code uint16, v []byte) error {
		switch {
		case code == optIfDrop && len(v) == 8:
			d.missed = p.u64(v)
		case code == optOSDrop && len(v) == 8:
			d.lost = p.u64(v)
		}
		return nil
	})
	p.about.drop(p.interfaces[p.u32(body)].point, d)
}

func (p *pcapng) u64(b []byte) uint64 {
	v := binary.LittleEndian.Uint64(b)
	if p.swapped {
		v = bits.ReverseBytes64(v)
	}
	return v
}
