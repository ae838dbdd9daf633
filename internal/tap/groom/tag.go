package groom

import (
	"encoding/binary"
	"strings"
	"sync"

	"crosstap/internal/dissect"
	"crosstap/internal/frame"
	"crosstap/internal/wire"
)

// Notes of the tag step.
const (
	noteTagged = iota
	noteNoTag  // the link has no place for a VLAN tag, or the identifier would be too high
	noteNoRoom // a trailer behind bytes that are missing would be taken for them
)

// The trailer, at the end of the frame: observation point (32 bits), rule (32), direction (8: 0 ingress, 1 egress, 255 unknown),
// version (8), segments of the super-frame that the frame was cut from (16), magic (32). In front of one with names are these, each as kind (8), length
// (8) and text, and their length (16) in all.
const (
	TrailerLen     = 16
	TrailerVersion = 1
	TrailerNamed   = 2          // version of one with names
	TrailerMagic   = 0x78746170 // "xtap"
)

// The kinds of names.
const (
	NameInterface = 1
	NameVM        = 2
	NameRule      = 3
)

// tag labels frames.
type tag struct {
	acc   account
	spec  Tag
	names naming
	named map[uint32][]byte // what stands in front of a point's trailers
}

func newTag(s Tag, names naming) *tag {
	return &tag{names: names, named: map[uint32][]byte{}, acc: newAccount("tag", nil, "frames tagged", "frames without a place for a VLAN tag", "frames without a trailer (cut short)"), spec: s}
}

func (t *tag) account() *account { return &t.acc }

func (t *tag) apply(it *item) bool {
	t.acc.note(noteTagged)
	if t.spec.Comment {
		it.f.Tag = uint16(min(it.f.Point, manyPoints) + 1)
	}
	if t.spec.VLAN != 0 {
		t.push(it)
	}
	if t.spec.Trailer {
		t.trail(it)
	}
	return true
}

// push puts a tag behind the addresses.
func (t *tag) push(it *item) {
	const addresses = 12
	id := t.spec.VLAN
	if t.spec.PerPoint {
		id += int(min(it.f.Point, maxVLAN))
	}
	if it.f.Link != frame.LinkEthernet || len(it.f.Data) < wire.EthernetLen || id > maxVLAN {
		t.acc.note(noteNoTag)
		return
	}
	b := it.group.take(len(it.f.Data) + wire.VLANLen)
	copy(b, it.f.Data[:addresses])
	binary.BigEndian.PutUint16(b[addresses:], t.spec.EtherType)
	binary.BigEndian.PutUint16(b[addresses+2:], uint16(id))
	copy(b[addresses+wire.VLANLen:], it.f.Data[addresses:])
	it.f.Data, it.owned = b, true
	it.f.OrigLen += wire.VLANLen
	if v := &it.f.VNet; v.NeedsCsum {
		v.CsumStart += wire.VLANLen
	}
	if v := &it.f.VNet; v.HdrLen != 0 {
		v.HdrLen += wire.VLANLen
	}
}

// trail appends the trailer.
func (t *tag) trail(it *item) {
	if it.f.Truncated() || it.packet().Issues&dissect.Truncated != 0 {
		t.acc.note(noteNoRoom)
		return
	}
	n, version, names := len(it.f.Data), byte(TrailerVersion), []byte(nil)
	if t.spec.Rule != "" || len(t.spec.VMs) > 0 {
		version, names = TrailerNamed, t.prefix(it.f.Point)
	}
	b := it.group.take(n + len(names) + TrailerLen)
	copy(b, it.f.Data)
	h := b[n+copy(b[n:], names):]
	binary.BigEndian.PutUint32(h, it.f.Point)
	binary.BigEndian.PutUint32(h[4:], t.spec.RuleID)
	h[8], h[9] = byte(it.f.Dir), version
	binary.BigEndian.PutUint16(h[10:], it.f.Segments)
	binary.BigEndian.PutUint32(h[12:], TrailerMagic)
	it.f.Data, it.owned = b, true
	it.f.OrigLen += len(b) - n
}

// prefix returns what stands in front of a point's trailers.
func (t *tag) prefix(point uint32) []byte {
	point = min(point, manyPoints)
	b, ok := t.named[point]
	if !ok {
		iface, vm := t.names.of(point)
		for kind, name := range []string{NameInterface: iface, NameVM: vm, NameRule: t.spec.Rule} {
			if name = name[:min(len(name), 0xff)]; name != "" {
				b = append(append(b, byte(kind), byte(len(name))), name...)
			}
		}
		b = binary.BigEndian.AppendUint16(b, uint16(len(b)))
		t.named[point] = b
	}
	return b
}

// manyPoints is the number of points that have a label of their own.
const manyPoints = 1<<16 - 2

// naming tells the names of a point.
type naming struct {
	spec *Tag
	name func(point uint32) string
}

// of returns the name of a point's interface and that of its machine, "" for what is not known. Many points share their lack of an interface's name.
func (n naming) of(point uint32) (iface, vm string) {
	if n.name != nil && point < manyPoints {
		iface = n.name(point)
	}
	vm, ok := n.spec.VMs[iface]
	if !ok {
		vm = n.spec.VMs[""]
	}
	return iface, vm
}

// labels are the texts that frames are labelled with. A point's interface may have a name only when its first frame comes.
type labels struct {
	naming

	mu    sync.Mutex
	texts map[uint16]string // by Frame.Tag
}

// of returns the text for a frame's tag, "" for none. It is safe for concurrent use.
func (l *labels) of(tag uint16) string {
	if tag == 0 {
		return ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	text, ok := l.texts[tag]
	if !ok {
		text = l.text(uint32(tag) - 1)
		l.texts[tag] = text
	}
	return text
}

func (l *labels) text(point uint32) string {
	name, vm := l.naming.of(point)
	var parts []string
	for _, x := range []struct{ what, name string }{{"point", name}, {"vm", vm}, {"rule", l.spec.Rule}} {
		if x.name != "" {
			parts = append(parts, x.what+" "+x.name)
		}
	}
	return strings.Join(parts, ", ")
}

// Labels returns what gives the text for a Frame.Tag, nil when frames get none. It is safe for concurrent use.
func (p *Pipeline) Labels() func(tag uint16) string { return p.labels }
