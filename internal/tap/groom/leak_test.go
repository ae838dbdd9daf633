package groom_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"testing"

	"crosstap/internal/frame"
	"crosstap/internal/wire"
)

// TestMaskLeavesNoAddress looks for addresses in what mask leaves of frames that scapy made, with them in options, routing headers, neighbour discovery and quoted
// packets: of whole frames, of captures that were cut at each byte, and of frames that a slice cut there. One that is not all there must be gone, too.
func TestMaskLeavesNoAddress(t *testing.T) {
	secrets := []string{"0a4d5863", "0a42372c", "fd112233445500000000000000007788", "fd99887766550000000000000000aabb", "02aabbccddee", "021122334455"}
	masks := pipeline(t, "mask=addresses+macs"+key)
	look := func(name string, in frame.Frame, got []byte) {
		t.Helper()
		for _, s := range secrets {
			secret, _ := hex.DecodeString(s)
			for at := 0; ; at++ {
				i := bytes.Index(in.Data[:in.OrigLen][at:], secret)
				if i < 0 {
					break
				}
				at += i
				switch end := at + len(secret); {
				case at >= len(got):
				case end <= len(got):
					if bytes.Equal(got[at:end], secret) {
						t.Errorf("%s, %d bytes: %s is left at %d", name, len(got), s, at)
					}
				case bytes.ContainsFunc(got[at:], func(r rune) bool { return r != 0 }):
					t.Errorf("%s, %d bytes: %x of %s is left at %d", name, len(got), got[at:], s, at)
				}
			}
		}
	}
	f := func(name, text string) {
		t.Helper()
		whole, err := hex.DecodeString(text)
		must2(t, err)
		for n := 1; n <= len(whole); n++ {
			in := frame.Frame{Data: whole[:n], OrigLen: len(whole), Link: frame.LinkEthernet}
			look(name, in, apply(t, masks, []frame.Frame{in})[0][0].Data)
		}
		for n := 1; n <= len(whole); n += 3 {
			in := frame.Frame{Data: whole, OrigLen: len(whole), Link: frame.LinkEthernet}
			look(name+", sliced", in, apply(t, pipeline(t, fmt.Sprintf("slice=%d,mask=addresses+macs%s", n, key)), []frame.Frame{in})[0][0].Data)
		}
	}
	f("recorded route", "02112233445502aabbccddee080048000029000100004011a9f60a4d58630a42372c070b040a4d58630a42372c00003500350009e35378")
	f("time stamps", "02112233445502aabbccddee0800480000290001000040111fe70a4d58630a42372c440c0d010a4d586300000001003500350009e35378")
	f("source route", "02112233445502aabbccddee0800480000290001000040112df60a4d58630a42372c830b040a4d58630a42372c00003500350009e35378")
	f("segment routing", "02112233445502aabbccddee86dd6000000000312b40fd112233445500000000000000007788fd99887766550000000000000000aabb1104040101000000fd112233445500000000000000007788fd99887766550000000000000000aabb003500350009d12c78")
	f("home address", "02112233445502aabbccddee86dd6000000000213c40fd112233445500000000000000007788fd99887766550000000000000000aabb110201020000c910fd112233445500000000000000007788003500350009152d78")
	f("ICMP error", "02112233445502aabbccddee080045000039000100004001d6a50a42372c0a4d58630301a137000000004500001d000100004011d6b10a4d58630a42372c000100020009e3ba78")
	f("ICMPv6 error", "02112233445502aabbccddee86dd6000000000393a40fd99887766550000000000000000aabbfd11223344550000000000000000778801001b18000000006000000000091140fd112233445500000000000000007788fd99887766550000000000000000aabb000100020009159478")
	f("solicitation", "02112233445502aabbccddee86dd6000000000203afffd112233445500000000000000007788ff0200000000000000000001ff00aabb8700c03800000000fd99887766550000000000000000aabb010102aabbccddee")
	f("router", "02112233445502aabbccddee86dd6000000000383afffd112233445500000000000000007788ff02000000000000000000000000000186002009000807080000000000000000010102aabbccddee030440c0ffffffffffffffff00000000fd99887766550000000000000000aabb")
	f("redirect", "02112233445502aabbccddee86dd6000000000283afffd112233445500000000000000007788fd99887766550000000000000000aabb8900921200000000fd112233445500000000000000007788fd99887766550000000000000000aabb")
	f("ARP", "02112233445502aabbccddee0806000108000604000102aabbccddee0a4d58630211223344550a42372c")
	f("VXLAN", "02112233445502aabbccddee08004500004f000100004011d67f0a4d58630a42372c12b512b5003bbc260c0000030000050002112233445502aabbccddee08004500001d000100004011d6b10a4d58630a42372c000100020009e3ba78")
}

// TestMaskQuotedOptions: the checksum of a quoted header follows its options, too.
func TestMaskQuotedOptions(t *testing.T) {
	quoted, err := hex.DecodeString("48000029000100004011a9f60a4d58630a42372c070b040a4d58630a42372c00003500350009e35378")
	must2(t, err)
	icmp := packet{src: 1, dst: 2, ttl: 64}.frame(0, 0)
	icmp.Data = append(append(icmp.Data[:34], 3, 1, 0, 0, 0, 0, 0, 0), quoted...)
	icmp.OrigLen = len(icmp.Data)
	h := wire.IPv4(icmp.Data[14:])
	h.SetProtocol(wire.ProtoICMP)
	h.SetTotalLen(uint16(len(icmp.Data) - 14))
	got := apply(t, pipeline(t, "mask=addresses"+key), []frame.Frame{icmp})[0][0]
	if q := got.Data[42:74]; !wire.ChecksumOK(q) || bytes.Equal(q[12:20], quoted[12:20]) || bytes.Equal(q[23:31], quoted[23:31]) {
		t.Errorf("%x", q)
	}
}
