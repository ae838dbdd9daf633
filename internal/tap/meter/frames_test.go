package meter

import (
	"context"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"crosstap/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// packet is a frame to be built.
type packet struct {
	srcMAC, dstMAC   byte
	vlan             uint16
	src, dst         string
	proto            uint8
	srcPort, dstPort uint16 // type and code of ICMP
	flags            uint8  // TCP
	ttl, tos         uint8
	payload          int
	id               uint16
	fragOff          int // bytes
	more             bool
	vtepSrc, vtepDst string
	vni              uint32
}

// bytes builds the frame: Ethernet, 802.1Q when there is a VLAN, IPv4 or IPv6, and all of it inside VXLAN when there
// are VTEPs.
func (p packet) bytes() []byte {
	b := []byte{2, 0, 0, 0, 0, p.dstMAC, 2, 0, 0, 0, 0, p.srcMAC}
	if p.vlan != 0 {
		b = binary.BigEndian.AppendUint16(append(b, 0x81, 0), p.vlan)
	}
	b = appendIP(b, p.src, p.dst, p.proto, p.ttl, p.tos, p.id, p.fragOff, p.more, p.transport())
	if p.vni == 0 {
		return b
	}
	vx := binary.BigEndian.AppendUint32([]byte{8, 0, 0, 0}, p.vni<<8)
	udp := binary.BigEndian.AppendUint16(nil, 50000+p.srcPort%1000)
	udp = binary.BigEndian.AppendUint16(udp, 4789)
	udp = binary.BigEndian.AppendUint16(udp, uint16(8+8+len(b)))
	udp = append(append(append(udp, 0, 0), vx...), b...)
	return appendIP([]byte{2, 0, 0, 0, 9, 2, 2, 0, 0, 0, 9, 1}, p.vtepSrc, p.vtepDst, 17, 64, 0, 0, 0, false, udp)
}

func (p packet) transport() []byte {
	if p.fragOff > 0 {
		return make([]byte, p.payload)
	}
	var b []byte
	switch p.proto {
	case 6:
		b = binary.BigEndian.AppendUint16(b, p.srcPort)
		b = binary.BigEndian.AppendUint16(b, p.dstPort)
		b = append(b, 0, 0, 0, 1, 0, 0, 0, 1, 0x80, p.flags, 1, 0, 0, 0, 0, 0, 1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0)
	case 17:
		b = binary.BigEndian.AppendUint16(b, p.srcPort)
		b = binary.BigEndian.AppendUint16(b, p.dstPort)
		b = binary.BigEndian.AppendUint16(b, uint16(8+p.payload))
		b = append(b, 0, 0)
	case 1, 58:
		b = append(b, byte(p.srcPort), byte(p.dstPort), 0, 0, 0, 1, 0, 1)
	}
	return append(b, make([]byte, p.payload)...)
}

// appendIP appends an ethertype and an IP packet.
func appendIP(b []byte, src, dst string, proto, ttl, tos uint8, id uint16, off int, more bool, body []byte) []byte {
	s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	frag := uint16(off / 8)
	if s.Is6() {
		b = append(b, 0x86, 0xdd, 0x60|tos>>4, tos<<4, 0, 0)
		fragmented := off > 0 || more
		n, next := len(body), proto
		if fragmented {
			n, next = n+8, 44
		}
		b = binary.BigEndian.AppendUint16(b, uint16(n))
		b = append(append(append(b, next, ttl), s.AsSlice()...), d.AsSlice()...)
		if fragmented {
			frag <<= 3
			if more {
				frag |= 1
			}
			b = binary.BigEndian.AppendUint16(append(b, proto, 0), frag)
			b = binary.BigEndian.AppendUint32(b, uint32(id))
		}
		return append(b, body...)
	}
	if more {
		frag |= 0x2000
	}
	b = append(b, 8, 0, 0x45, tos)
	b = binary.BigEndian.AppendUint16(b, uint16(20+len(body)))
	b = binary.BigEndian.AppendUint16(b, id)
	b = binary.BigEndian.AppendUint16(b, frag)
	b = append(append(append(b, ttl, proto, 0, 0), s.AsSlice()...), d.AsSlice()...)
	return append(b, body...)
}

const second = int64(time.Second)

// at returns the packet as an Ethernet frame seen at a time in seconds.
func (p packet) at(seconds float64) frame.Frame {
	if p.ttl == 0 {
		p.ttl = 64
	}
	b := p.bytes()
	return frame.Frame{Data: b, OrigLen: len(b), TimeNS: int64(seconds * 1e9), Link: frame.LinkEthernet, Dir: frame.Unknown}
}

// run meters frames, in batches of all sizes, and returns the records in the order of their end.
func run(tb testing.TB, c Config, frames []frame.Frame) ([]flow.Record, *Meter) {
	tb.Helper()
	m, err := New(c)
	if err != nil {
		tb.Fatal(err)
	}
	in, out := make(chan frame.Batch), make(chan []flow.Record)
	done := make(chan error, 1)
	released, sent := 0, 0
	go func() {
		defer close(in)
		for size := 1; len(frames) > 0; size = size*3%101 + 1 {
			n := min(size, len(frames))
			sent++
			in <- frame.Batch{Frames: frames[:n], Free: func() { released++ }}
			frames = frames[n:]
		}
	}()
	go func() {
		done <- m.Run(context.Background(), in, out)
		close(out)
	}()
	var all []flow.Record
	for records := range out {
		all = append(all, records...)
	}
	if err := <-done; err != nil {
		tb.Fatal(err)
	}
	if released != sent {
		tb.Errorf("%d of %d batches released", released, sent)
	}
	for _, b := range m.Books() {
		if s := b.Read(); s.Balance() != nil || s.Held != 0 {
			tb.Errorf("ledger: %+v: %v", s, s.Balance())
		}
	}
	return all, m
}
