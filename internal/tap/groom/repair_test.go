package groom_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"path/filepath"
	"testing"

	"crosstap/internal/dissect"
	"crosstap/internal/frame"
	"crosstap/internal/testkit"
	"crosstap/internal/wire"
)

// TestRepairCuts looks at the headers of segments that the kernel of the live test does not make.
func TestRepairCuts(t *testing.T) {
	in := super(3000)
	wire.TCP(in.Data[34:]).SetFlags(wire.TCPCwr | wire.TCPAck | wire.TCPPsh | wire.TCPFin)
	wire.TCP(in.Data[34:]).SetSeq(0xfffffff0)
	out := apply(t, pipeline(t, "repair"), []frame.Frame{in})[0]
	if len(out) != 3 {
		t.Fatalf("%d segments", len(out))
	}
	flags := []uint16{wire.TCPCwr | wire.TCPAck, wire.TCPAck, wire.TCPAck | wire.TCPPsh | wire.TCPFin}
	for i, x := range out {
		ip, h := wire.IPv4(x.Data[14:]), wire.TCP(x.Data[34:])
		if h.Flags() != flags[i] || h.Seq() != 0xfffffff0+uint32(i)*1448 || ip.ID() != 9+uint16(i) || !wire.ChecksumOK(ip[:20]) || int(ip.TotalLen()) != len(x.Data)-14 ||
			wire.TransportChecksum(ip.Src(), ip.Dst(), wire.ProtoTCP, h) != 0 || x.Segments != 3 || x.VNet != (frame.VNet{}) {
			t.Errorf("segment %d: %x", i, x.Data[:54])
		}
	}
	if len(out[2].Data) != 54+3000-2*1448 {
		t.Errorf("the last one has %d bytes", len(out[2].Data))
	}

	zero := super(3000) // a sender that numbers nothing
	wire.IPv4(zero.Data[14:]).SetID(0)
	for i, x := range apply(t, pipeline(t, "repair"), []frame.Frame{zero})[0] {
		if wire.IPv4(x.Data[14:]).ID() != 0 {
			t.Errorf("segment %d of a sender that numbers nothing has a number", i)
		}
	}
}

// TestRepairOfCutFrames segments what the snap length left: lengths are right, the bytes are those that are there.
func TestRepairOfCutFrames(t *testing.T) {
	in := super(3000)
	in.Data = in.Data[:54+2000]
	p := pipeline(t, "repair")
	out := apply(t, p, []frame.Frame{in})[0]
	want := [][2]int{{54 + 1448, 54 + 1448}, {54 + 552, 54 + 1448}, {54, 54 + 104}}
	for i, x := range out {
		if len(x.Data) != want[i][0] || x.OrigLen != want[i][1] {
			t.Errorf("segment %d: %d of %d bytes, want %v", i, len(x.Data), x.OrigLen, want[i])
		}
	}
	if n := p.Notes(); len(n) != 2 || n[1].N != 1 || n[1].What != "checksums unknown (cut by the snap length)" {
		t.Errorf("%v", n)
	}
}

// TestRepairCompletes fills in checksums that were left to hardware.
func TestRepairCompletes(t *testing.T) {
	want := packet{src: 1, dst: 2, srcPort: 3, dstPort: 4, ttl: 5, payload: []byte("odd")}.frame(0, 0)
	in := want
	in.Data = append(bytes.Clone(in.Data), 0, 0, 0) // padding is not summed
	in.OrigLen += 3
	binary.BigEndian.PutUint16(in.Data[40:], wire.PseudoSum(in.Data[26:30], in.Data[30:34], wire.ProtoUDP, 11))
	in.VNet = frame.VNet{NeedsCsum: true, CsumStart: 34, CsumOffset: 6}
	out := apply(t, pipeline(t, "repair"), []frame.Frame{in})[0][0]
	if !bytes.Equal(out.Data[:len(want.Data)], want.Data) || out.VNet != (frame.VNet{}) {
		t.Errorf("%x\n%x", out.Data, want.Data)
	}

	sctp := append(bytes.Clone(want.Data[:34]), 0, 7, 0, 8, 1, 2, 3, 4, 9, 9, 9, 9, 5, 6, 7, 8)
	wire.IPv4(sctp[14:]).SetProtocol(wire.ProtoSCTP)
	wire.IPv4(sctp[14:]).SetTotalLen(36)
	x := apply(t, pipeline(t, "repair"), []frame.Frame{{Data: sctp, OrigLen: len(sctp), Link: frame.LinkEthernet, VNet: frame.VNet{NeedsCsum: true, CsumStart: 34, CsumOffset: 8}}})[0][0]
	copy(sctp[42:], []byte{0, 0, 0, 0})
	if got := binary.LittleEndian.Uint32(x.Data[42:]); got != crc32.Checksum(sctp[34:], crc32.MakeTable(crc32.Castagnoli)) {
		t.Errorf("SCTP: %08x", got)
	}
}

// TestRepairLeaves what it cannot know, and counts it.
func TestRepairLeaves(t *testing.T) {
	f := func(what string, in frame.Frame, note string) {
		t.Helper()
		p := pipeline(t, "repair")
		out := apply(t, p, []frame.Frame{in})[0]
		if len(out) != 1 || !bytes.Equal(out[0].Data, in.Data) {
			t.Errorf("%s: was changed", what)
		}
		if n := p.Notes(); len(n) != 1 || n[0].What != note {
			t.Errorf("%s: %v", what, n)
		}
	}
	const misfit = "super-frames left (virtio header does not fit)"
	x := super(3000)
	x.VNet.Type = frame.GSOTCPv6
	f("the other version of IP", x, misfit)
	x = super(3000)
	x.VNet.CsumStart = 35
	f("a checksum that begins elsewhere", x, misfit)
	x = super(3000)
	x.VNet.Segment = 1
	f("segments of a byte", x, misfit)
	x = super(3000)
	x.VNet.Type = frame.GSOUDP
	f("fragmentation offload", x, misfit)
	x = super(3000)
	x.VNet = frame.VNet{NeedsCsum: true, CsumStart: 65000, CsumOffset: 65000}
	f("a checksum beyond the frame", x, misfit)
	x = super(3000)
	x.VNet = frame.VNet{}
	f("no virtio header", x, "frames longer than the MTU without a virtio header")
}

// TestRepairOfBigTCP cuts the super-frames of the corpus that no 16-bit length holds, inside of Geneve and VXLAN over both
// versions of IP; tshark finds every checksum of the segments right.
func TestRepairOfBigTCP(t *testing.T) {
	tshark := testkit.Tool(t, "tshark")
	for _, name := range []string{"bigtcp-ipv4-geneve-ipv4", "bigtcp-ipv4-geneve-ipv6", "bigtcp-ipv4-vxlan-ipv4", "bigtcp-ipv6-geneve-ipv6",
		"gso-ipv4-geneve-ipv4", "gso-ipv4-geneve-ipv6", "gso-ipv6-geneve-ipv4", "gso-ipv6-geneve-ipv6"} {
		frames := load(t, testkit.Corpus(t, "tap/tcpdump/"+name+".pcap"))
		wanted := 0
		for i := range frames {
			x := &frames[i]
			p := issues(x)
			if p.Inner().Proto != wire.ProtoTCP || x.OrigLen < 2000 {
				continue
			}
			l := p.Layers[p.NLayers-1]
			x.VNet = frame.VNet{Type: frame.GSOTCPv4, Segment: 1300, NeedsCsum: true, CsumStart: l.Off, CsumOffset: 16}
			if p.Inner().EtherType == wire.TypeIPv6 {
				x.VNet.Type = frame.GSOTCPv6
			}
			wanted += (x.OrigLen - int(p.Inner().PayloadOff) + 1299) / 1300
		}
		var out []frame.Frame
		for _, x := range apply(t, pipeline(t, "repair"), frames)[0] {
			if x.Segments > 0 {
				out = append(out, x)
			}
		}
		if wanted == 0 || len(out) != wanted {
			t.Errorf("%s: %d segments, want %d", name, len(out), wanted)
			continue
		}
		path := filepath.Join(t.TempDir(), "out.pcap")
		save(t, path, frame.LinkEthernet, out)
		for i, f := range fields(t, tshark, path) {
			p := issues(&out[i])
			if p.Issues&dissect.Malformed != 0 {
				t.Errorf("%s: segment %d is malformed", name, i)
			}
			for _, column := range []int{6, 14, 17} {
				if bytes.Contains([]byte(f[column]), []byte("0")) {
					t.Errorf("%s: segment %d: a bad checksum: %v", name, i, f)
				}
			}
		}
	}
}
