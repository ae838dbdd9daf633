package meter

import (
	"testing"

	"crosstap/internal/flow"
	"crosstap/internal/frame"
)

// FuzzFrames meters two frames of any bytes, link type and virtio header: the books balance, and no frame counts
// for more than its bytes allow.
func FuzzFrames(f *testing.F) {
	tunnel := packet{src: "10.0.0.1", dst: "10.0.0.2", proto: 6, vni: 1, vtepSrc: "192.0.2.1", vtepDst: "192.0.2.2", payload: 50}
	f.Add(tunnel.bytes(), uint16(1), uint8(1), uint16(20), uint16(100), true, int64(5))
	f.Add(packet{src: "fd00::1", dst: "fd00::2", proto: 17, more: true}.bytes(), uint16(1), uint8(5), uint16(1), uint16(54), false, int64(-1))
	f.Fuzz(func(t *testing.T, b []byte, link uint16, kind uint8, segment, start uint16, csum bool, at int64) {
		v := frame.VNet{Type: kind, Segment: segment, HdrLen: start, NeedsCsum: csum, CsumStart: start}
		one := frame.Frame{Data: b, OrigLen: len(b), TimeNS: at, Link: frame.LinkType(link), VNet: v}
		two := frame.Frame{Data: b[:len(b)/2], OrigLen: len(b), TimeNS: at - 1e12, Link: frame.LinkType(link), VNet: v}
		c := DefaultConfig()
		c.Key, c.Biflow, c.Workers = Key(start%3), start%2 == 0, 1+int(start/6%2)
		got, _ := run(t, c, []frame.Frame{one, two, one})
		var sum flow.Record
		for _, r := range got {
			sum.Packets += r.Packets
			sum.L2Octets += r.L2Octets
		}
		most := uint64(len(b)) + 1
		if sum.Packets > 3*most {
			t.Errorf("%d packets of frames with %d bytes", sum.Packets, len(b))
		}
		if sum.L2Octets > 3*most*(most+1) {
			t.Errorf("%d layer-2 octets of frames with %d bytes", sum.L2Octets, len(b))
		}
	})
}
