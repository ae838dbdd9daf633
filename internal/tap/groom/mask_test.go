package groom_test

import (
	"bytes"
	"encoding/hex"
	"math/bits"
	"math/rand"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"crosstap/internal/frame"
	"crosstap/internal/tap/groom"
	"crosstap/internal/testkit"
)

// TestMaskOverwrites masks parts of one frame and looks at the bytes.
func TestMaskOverwrites(t *testing.T) {
	p := packet{src: 1, dst: 2, srcPort: 3, dstPort: 80, ttl: 64, tcp: true, payload: []byte("card 4111-1111 and \xff\xfe end")}
	const head = 14 + 20 + 20
	f := func(flags, want string) {
		t.Helper()
		for _, tunnel := range []bool{false, true} {
			in := p.frame(0, 0)
			at := head
			if tunnel {
				in, at = inVXLAN(in, 7), head+50
			}
			got := apply(t, pipeline(t, flags), []frame.Frame{in})[0][0]
			if s := string(got.Data[at:]); s != want {
				t.Errorf("%s: %q, want %q", flags, s, want)
			}
			if !bytes.Equal(got.Data[:at-20], in.Data[:at-20]) {
				t.Errorf("%s: headers were changed", flags)
			}
		}
	}
	f("mask=inner-l7/fill=0x2a", strings.Repeat("*", 25))
	f("mask=inner-l7:5-/fill=0x2a", "card "+strings.Repeat("*", 20))
	f("mask=inner-l7:0-3/fill=0x2a", "**** 4111-1111 and \xff\xfe end")
	f("mask=inner-l7:0-3+inner-l7:20-20/fill=0x2a", "**** 4111-1111 and \xff* end")
	f(`mask=regex:\d{4}/fill=0x2a`, "card ****-**** and \xff\xfe end")
	f(`mask=regex:\xfe/fill=0x2a`, "card 4111-1111 and \xff* end")
	f(`mask="regex:[^ -~]+"/fill=0x2a`, "card 4111-1111 and ** end")
	f("slice=inner-l7+10,mask=regex:[0-9]{4}-[0-9]{4}/fill=0x2a", "card *****")
	f("slice=inner-l7+9,mask=inner-l7:7-/fill=0x2a", "card 41**")
}

// TestMaskKeepsChecksumsRight masks frames of the corpus: tshark finds the checksums right that were right, and wrong
// those that were wrong.
func TestMaskKeepsChecksumsRight(t *testing.T) {
	tshark, dir := testkit.Tool(t, "tshark"), t.TempDir()
	for _, flags := range []string{"mask=addresses+macs" + key, "mask=inner-l7:3-/fill=0x55", "mask=regex:[a-z0-9]/fill=0x58"} {
		p := pipeline(t, flags)
		var was, is []frame.Frame
		corpus(t, func(name string, frames []frame.Frame) {
			if frames[0].Link != frame.LinkEthernet || mixed(frames) || strings.Contains(name, "stun") {
				return
			}
			frames = frames[:min(len(frames), 40)]
			was, is = append(was, frames...), append(is, apply(t, p, frames)[0]...)
		})
		a, b := filepath.Join(dir, "a.pcap"), filepath.Join(dir, "b.pcap")
		save(t, a, frame.LinkEthernet, was)
		save(t, b, frame.LinkEthernet, is)
		before, after := fields(t, tshark, a), fields(t, tshark, b)
		wrong, right := 0, 0
		for i := range before {
			for _, column := range []int{6, 14, 17, 18, 19} {
				w, n := strings.Split(before[i][column], ","), strings.Split(after[i][column], ",")
				if before[i][0] != after[i][0] || len(w) != len(n) || hidden(before[i][0], flags) {
					continue
				}
				if !slices.Equal(w, n) {
					if wrong++; wrong < 5 {
						t.Errorf("%s: frame %d, %s: column %d was %v, is %v", flags, i+1, before[i][0], column, w, n)
					}
				} else if before[i][column] != "" {
					right++
				}
			}
		}
		t.Logf("%s: %d checksums, %d wrong", flags, right, wrong)
	}
}

// hidden reports whether tshark looks at packets in the payload, which the mask overwrites, at what other fragments have changed, or
// takes a home address in the destination options for the source (RFC 6275, section 6.3), which is not followed here.
func hidden(protocols, flags string) bool {
	for _, p := range []string{"fraghdr", "pim:ip", "macsec", "ipv6.dstopts", "gre:wlan", "teredo", "nhrp", "sflow", "ayiya"} {
		if strings.Contains(protocols, p) {
			return true
		}
	}
	quotes := strings.Contains(protocols, "icmp:ip") || strings.Contains(protocols, "icmpv6:ip")
	return quotes && !strings.Contains(flags, "addresses")
}

// TestPseudonymsKeepPrefixes: two addresses that share n bits have pseudonyms that share n bits, and no two are the
// same.
func TestPseudonymsKeepPrefixes(t *testing.T) {
	p := pipeline(t, "mask=addresses"+key)
	name := func(a netip.Addr) netip.Addr {
		b := []byte{0x60, 0, 0, 0, 0, 0, 59, 64}
		link := frame.LinkIPv6
		if a.Is4() {
			b, link = []byte{0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59, 0, 0}, frame.LinkIPv4
		}
		b = append(append(b, a.AsSlice()...), a.AsSlice()...)
		out := apply(t, p, []frame.Frame{{Data: b, OrigLen: len(b), Link: link}})[0][0].Data
		x, _ := netip.AddrFromSlice(out[len(out)-len(a.AsSlice()):])
		return x
	}
	common := func(a, b netip.Addr) int {
		x, y := a.AsSlice(), b.AsSlice()
		for i := range x {
			if d := x[i] ^ y[i]; d != 0 {
				return 8*i + bits.LeadingZeros8(d)
			}
		}
		return 8 * len(x)
	}
	// Values of the Crypto-PAn reference for the key 00 01 … 1f.
	for _, c := range []struct{ addr, want string }{{"192.0.2.1", "2.90.93.17"}, {"2001:db8::1", "dd92:2c44:3fc0:ff1e:7ff9:c7f0:8180:7e00"}} {
		if got := name(netip.MustParseAddr(c.addr)); got != netip.MustParseAddr(c.want) {
			t.Errorf("%s: %s, want %s", c.addr, got, c.want)
		}
	}
	r := rand.New(rand.NewSource(1))
	for range 2000 {
		var a, b [16]byte
		r.Read(a[:])
		b = a
		n := []int{4, 16}[r.Intn(2)]
		bit := r.Intn(8 * n)
		b[bit/8] ^= 0x80 >> (bit % 8)
		x, _ := netip.AddrFromSlice(a[:n])
		y, _ := netip.AddrFromSlice(b[:n])
		if x.IsMulticast() || y.IsMulticast() {
			continue
		}
		if got, want := common(name(x), name(y)), common(x, y); got != want {
			t.Fatalf("%s and %s share %d bits, %s and %s share %d", x, y, want, name(x), name(y), got)
		}
	}
}

// TestPatternMistakes are found when the pipeline is made.
func TestPatternMistakes(t *testing.T) {
	f := func(pattern, want string) {
		t.Helper()
		_, err := groom.New(groom.Config{Spec: groom.Spec{Mask: &groom.Mask{Patterns: []string{pattern}}}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", pattern, err)
		}
	}
	f("a(", "missing closing )")
	f("a*", "matches nothing at all")
}

// TestMACsArePermuted: the vendor stays, and no two become one.
func TestMACsArePermuted(t *testing.T) {
	p := pipeline(t, "mask=macs"+key)
	seen := map[string]bool{}
	for i := range 5000 {
		f := packet{src: 1, dst: 2}.frame(0, 0)
		copy(f.Data[6:], []byte{0x52, 0x54, 0, byte(i >> 8), byte(i), byte(i * 7)})
		copy(f.Data, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
		out := apply(t, p, []frame.Frame{f})[0][0].Data
		if s := hex.EncodeToString(out[6:12]); !strings.HasPrefix(s, "525400") || seen[s] || hex.EncodeToString(out[:6]) != "ffffffffffff" {
			t.Fatalf("%x has become %x", f.Data[:12], out[:12])
		} else {
			seen[s] = true
		}
	}
}
