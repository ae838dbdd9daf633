package message

import (
	"encoding/binary"
	"errors"
	"fmt"

	"crosstap/internal/flow"
)

// Errors of ParseBatch.
var (
	errShort = errors.New("message: cut short")
	errWire  = errors.New("message: a field is not of its type")
)

// maxFlows bounds the records of one message.
const maxFlows = 1 << 20

// reader takes fields from the front.
type reader struct{ b []byte }

// varint reads a number.
func (r *reader) varint() (uint64, error) {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		return 0, errShort
	}
	r.b = r.b[n:]
	return v, nil
}

// value is a field's content: a number or bytes.
type value struct {
	field int
	wire  int
	n     uint64
	bytes []byte
}

// next reads one field.
func (r *reader) next() (v value, err error) {
	tag, err := r.varint()
	if err != nil {
		return v, err
	}
	v.field, v.wire = int(tag>>3&(1<<29-1)), int(tag&7)
	switch v.wire {
	case wireVarint:
		v.n, err = r.varint()
	case wireFixed64:
		if len(r.b) < 8 {
			return v, errShort
		}
		v.n, r.b = binary.LittleEndian.Uint64(r.b), r.b[8:]
	case 5: // 32 bits; no field of ours
		if len(r.b) < 4 {
			return v, errShort
		}
		v.n, r.b = uint64(binary.LittleEndian.Uint32(r.b)), r.b[4:]
	case wireBytes:
		var n uint64
		if n, err = r.varint(); err == nil && n > uint64(len(r.b)) {
			err = errShort
		}
		if err == nil {
			v.bytes, r.b = r.b[:n:n], r.b[n:]
		}
	default:
		err = fmt.Errorf("message: wire type %d", v.wire)
	}
	return v, err
}

// ParseBatch appends the flows of a FlowBatch to recs. Fields that are not known are passed over. Texts are copies; equal ones that follow
// each other are shared through t.
func ParseBatch(b []byte, recs []flow.Record, t *Texts) ([]flow.Record, error) {
	r := reader{b}
	for len(r.b) > 0 {
		v, err := r.next()
		if err != nil {
			return recs, err
		}
		if v.field != 1 {
			continue
		}
		if v.wire != wireBytes {
			return recs, errWire
		}
		if len(recs) >= maxFlows {
			return recs, fmt.Errorf("message: more than %d flows", maxFlows)
		}
		recs = append(recs, flow.Record{})
		if err := parseFlow(v.bytes, &recs[len(recs)-1], t); err != nil {
			return recs[:len(recs)-1], err
		}
	}
	return recs, nil
}

// Texts keeps texts that come again, some for each field.
type Texts struct{ last [80]string }

// text gives bytes as text.
func (t *Texts) text(field int, b []byte) string {
	if field >= len(t.last) {
		return string(b)
	}
	if t.last[field] != string(b) {
		t.last[field] = string(b)
	}
	return t.last[field]
}

func parseFlow(b []byte, to *flow.Record, t *Texts) error {
	to.Direction = 255
	r := reader{b}
	var kind, number uint64
	for len(r.b) > 0 {
		v, err := r.next()
		if err != nil {
			return err
		}
		want, known := fieldWire(v.field)
		switch {
		case !known:
			continue
		case v.wire != want && v.field != 12:
			return errWire
		case v.wire == wireBytes && setText(to, &v, t):
			continue
		case v.wire == wireBytes && v.field != 12:
			if err := setAddr(to, &v); err != nil {
				return err
			}
			continue
		}
		switch v.field {
		case 12:
			if err := setMarks(to, &v); err != nil {
				return err
			}
		case 15:
			kind = v.n
		case 16:
			number = v.n
		case 74:
			to.Segment = flow.Segment(v.n)
		default:
			setNumber(to, &v)
		}
	}
	for k, n := range segmentKinds {
		if n == kind && to.Segment == 0 {
			to.Segment = flow.NewSegment(k, uint32(number))
		}
	}
	return nil
}

// fieldWire gives the wire type of the fields of a Flow.
func fieldWire(field int) (wire int, known bool) {
	switch field {
	case 1, 2, 3, 13, 14, 74:
		return wireFixed64, true
	case 4, 7, 8, 12, 17, 18, 19, 20, 21, 22, 27, 28, 45, 46, 47, 61, 62, 63, 64, 65, 66, 67, 69, 70:
		return wireBytes, true
	}
	return wireVarint, field > 0 && field <= 73
}

func setText(to *flow.Record, v *value, t *Texts) bool {
	var p *string
	switch v.field {
	case 7:
		p = &to.Observer
	case 8:
		p = &to.ObserverHost
	case 17:
		p = &to.Fabric
	case 18:
		p = &to.Tenant
	case 19:
		p = &to.SrcTenant
	case 20:
		p = &to.DstTenant
	case 45:
		p = &to.InIfName
	case 46:
		p = &to.OutIfName
	case 47:
		p = &to.VRF
	case 61:
		p = &to.SrcVM
	case 62:
		p = &to.DstVM
	case 63:
		p = &to.SrcVMID
	case 64:
		p = &to.DstVMID
	case 65:
		p = &to.SrcHost
	case 66:
		p = &to.DstHost
	case 67:
		p = &to.App
	case 69:
		p = &to.AppName
	case 70:
		p = &to.Extra
	default:
		return false
	}
	*p = t.text(v.field, v.bytes)
	return true
}

func setAddr(to *flow.Record, v *value) error {
	var a flow.Addr
	switch len(v.bytes) {
	case 4:
		a = flow.V4(v.bytes)
	case 16:
		a = flow.V6(v.bytes)
	case 0:
	default:
		return fmt.Errorf("message: an address of %d bytes", len(v.bytes))
	}
	switch v.field {
	case 4:
		to.Exporter = a
	case 21:
		to.Tunnel.Src = a
	case 22:
		to.Tunnel.Dst = a
	case 27:
		to.Src = a
	case 28:
		to.Dst = a
	}
	return nil
}

// setMarks takes a packed list, or one number of a list that is not.
func setMarks(to *flow.Record, v *value) error {
	if v.wire == wireVarint {
		if v.n < 16 {
			to.Marks |= 1 << v.n
		}
		return nil
	}
	if v.wire != wireBytes {
		return errWire
	}
	for r := (reader{v.bytes}); len(r.b) > 0; {
		n, err := r.varint()
		if err != nil {
			return err
		}
		if n < 16 {
			to.Marks |= 1 << n
		}
	}
	return nil
}

func setNumber(to *flow.Record, v *value) {
	n := v.n
	switch v.field {
	case 1:
		to.StartNS = int64(n)
	case 2:
		to.EndNS = int64(n)
	case 3:
		to.RecvNS = int64(n)
	case 5:
		to.Domain = uint32(n)
	case 6:
		to.Point = n
	case 9:
		to.Role = flow.Role(n)
	case 10:
		to.Direction = uint8(n) - 1 // 0 for not known
	case 11:
		if n != 0 {
			to.Marks |= flow.MarkCanonical
		}
	case 13:
		to.FlowID = n
	case 14:
		to.ObserverID = n
	case 23:
		to.Tunnel.SrcPort = uint16(n)
	case 24:
		to.Tunnel.DstPort = uint16(n)
	case 25:
		to.Tunnel.Proto = uint8(n)
	case 26:
		to.Tunnel.Type = uint8(n)
	default:
		setPacket(to, v)
	}
}

func setPacket(to *flow.Record, v *value) {
	n := v.n
	switch v.field {
	case 29:
		to.SrcPort = uint16(n)
	case 30:
		to.DstPort = uint16(n)
	case 31:
		to.Proto = uint8(n)
	case 32:
		to.ToS = uint8(n)
	case 33:
		to.MinTTL = uint8(n)
	case 34:
		to.MaxTTL = uint8(n)
	case 35:
		to.TCPFlags = uint16(n)
	case 36:
		to.ICMPTypeCode |= uint16(n) << 8
	case 37:
		to.ICMPTypeCode |= uint16(n) & 255
	case 38:
		to.EtherType = uint16(n)
	case 39:
		to.VLAN = uint16(n)
	case 40:
		to.InnerVLAN = uint16(n)
	case 41:
		to.SrcMAC = flow.MAC(n)
	case 42:
		to.DstMAC = flow.MAC(n)
	case 43:
		to.InIf = uint32(n)
	case 44:
		to.OutIf = uint32(n)
	default:
		setCounter(to, v)
	}
}

func setCounter(to *flow.Record, v *value) {
	n := v.n
	switch v.field {
	case 48:
		to.Packets = n
	case 49:
		to.Octets = n
	case 50:
		to.L2Octets = n
	case 51:
		to.Sampling = uint32(n)
	case 52:
		to.EndReason = flow.EndReason(n)
	case 53:
		to.Client = flow.Client(n)
	case 54:
		to.MinLen = uint16(n)
	case 55:
		to.MaxLen = uint16(n)
	case 56:
		to.MPLS = uint32(n)
	case 58:
		to.RTTUS = uint32(n)
	case 57:
		to.Fragments = uint32(n)
	case 59:
		to.Retransmits = uint32(n)
	case 60:
		to.ZeroWindows = uint32(n)
	case 68:
		to.AppHow = flow.AppHow(n)
	case 71:
		to.SrcVIF = uint16(n)
	case 72:
		to.DstVIF = uint16(n)
	case 73:
		to.FirstTCPFlags = uint8(n)
	}
}
