package groom

import (
	"encoding/binary"
	"fmt"
	"strings"

	"crosstap/internal/dissect"
	"crosstap/internal/frame"
	"crosstap/internal/wire"
)

// Notes of the tag step.
const (
	noteTagged   = iota
	noteNoTag    // the link has no place for a VLAN tag, or the identifier would be too high
	noteNoRoom   // a trailer behind bytes that are missing would be taken for them
	noteNoTagMax = 4094
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
	acc    account
	spec   Tag
	points int // those that have a label of their own
}

func newTag(s Tag, points int) *tag {
	return &tag{acc: newAccount("tag", nil, "frames tagged", "frames without a place for a VLAN tag", "frames without a trailer (cut short)"), spec: s, points: points}
}

func (t *tag) account() *account { return &t.acc }

func (t *tag) apply(it *item) bool {
	t.acc.note(noteTagged)
	if t.spec.Comment {
		it.f.Tag = uint16(min(int(it.f.Point), t.points) + 1)
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
		id += int(min(it.f.Point, noteNoTagMax))
	}
	if it.f.Link != frame.LinkEthernet || len(it.f.Data) < wire.EthernetLen || id > noteNoTagMax {
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

// labels returns the texts that Frame.Tag chooses from: for each point, and at last for those that are not described.
func labels(s *Tag, points []Point) []string {
	if s == nil || !s.Comment {
		return nil
	}
	all := []string{""}
	for _, p := range points {
		all = append(all, label(s, p))
	}
	return append(all, label(s, Point{}))
}

func label(s *Tag, p Point) string {
	var parts []string
	for _, x := range []struct{ what, name string }{{"point", p.Name}, {"vm", p.VM}, {"rule", s.Rule}} {
		if x.name != "" {
			parts = append(parts, fmt.Sprintf("%s %s", x.what, x.name))
		}
	}
	return strings.Join(parts, ", ")
}
