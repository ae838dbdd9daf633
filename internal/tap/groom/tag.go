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
// version (8), segments of the super-frame that the frame was cut from (16), magic (32).
const (
	TrailerLen     = 16
	TrailerVersion = 1
	TrailerMagic   = 0x78746170 // "xtap"
)

// tag labels frames.
type tag struct {
	acc  account
	spec Tag
}

func newTag(s Tag) *tag {
	return &tag{acc: newAccount("tag", nil, "frames tagged", "frames without a place for a VLAN tag", "frames without a trailer (cut short)"), spec: s}
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
	n := len(it.f.Data)
	b := it.group.take(n + TrailerLen)
	copy(b, it.f.Data)
	h := b[n:]
	binary.BigEndian.PutUint32(h, it.f.Point)
	binary.BigEndian.PutUint32(h[4:], t.spec.RuleID)
	h[8], h[9] = byte(it.f.Dir), TrailerVersion
	binary.BigEndian.PutUint16(h[10:], it.f.Segments)
	binary.BigEndian.PutUint32(h[12:], TrailerMagic)
	it.f.Data, it.owned = b, true
	it.f.OrigLen += TrailerLen
}

// manyPoints is the number of points that have a label of their own.
const manyPoints = 1<<16 - 2

// labels are the texts that frames are labelled with. A point's interface may have a name only when its first frame comes.
type labels struct {
	spec *Tag
	name func(point uint32) string

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
	name := ""
	if l.name != nil && point < manyPoints {
		name = l.name(point)
	}
	vm, ok := l.spec.VMs[name]
	if !ok {
		vm = l.spec.VMs[""]
	}
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
