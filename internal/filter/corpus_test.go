package filter

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"crosstap/internal/frame"
	"crosstap/internal/tap/capture"
	"crosstap/internal/testkit"
)

// links are the link types by libpcap's names.
var links = map[string]frame.LinkType{"EN10MB": frame.LinkEthernet, "LINUX_SLL": frame.LinkSLL, "LINUX_SLL2": frame.LinkSLL2, "RAW": frame.LinkRaw,
	"IPV4": frame.LinkIPv4, "IPV6": frame.LinkIPv6, "NULL": frame.LinkNull, "LOOP": frame.LinkLoop, "IEEE802_11": frame.LinkWLAN, "IEEE802_11_RADIO": frame.LinkRadiotap,
	"IEEE802_11_RADIO_AVS": frame.LinkAVS, "PRISM_HEADER": frame.LinkPrism, "PPI": frame.LinkPPI, "PFLOG": frame.LinkPFLOG, "MTP2": frame.LinkMTP2,
	"DSA_TAG_BRCM": frame.LinkBroadcomTag, "DSA_TAG_DSA": frame.LinkDSA, "SUNATM": frame.LinkSunATM, "IEEE802": frame.LinkTokenRing, "IP_OVER_FC": frame.LinkIPOverFC,
	"FDDI": frame.LinkFDDI, "PPP": frame.LinkPPP, "ARCNET": frame.LinkARCNET, "ARCNET_LINUX": frame.LinkARCNETLinux, "C_HDLC": frame.LinkCiscoHDLC,
	"FRELAY": frame.LinkFrameRelay, "SLIP": frame.LinkSLIP, "SLIP_BSDOS": frame.LinkSLIPBSDOS, "PPP_PPPD": frame.LinkPPPD, "PPP_ETHER": frame.LinkPPPEther,
	"JUNIPER_MFR": frame.LinkJuniperMFR, "BACNET_MS_TP": frame.LinkMSTP, "LTALK": frame.LinkLocalTalk, "APPLE_IP_OVER_IEEE1394": frame.LinkAppleIEEE1394,
	"NETANALYZER": frame.LinkNetANALYZER, "NETANALYZER_TRANSPARENT": frame.LinkNetANALYZERRaw, "ATM_CLIP": frame.LinkATMCLIP, "IPNET": frame.LinkIPNET}

// hosts answers as the hosts file of libpcap's own tests.
type hosts struct{}

func (hosts) Host(name string) (out []netip.Addr, err error) {
	name = strings.ToLower(name)
	v := func(list ...string) {
		for _, a := range list {
			out = append(out, netip.MustParseAddr(a))
		}
	}
	switch {
	case strings.Contains(name, ".host123."):
		if strings.Contains(name, "-ipv4-") {
			v("10.20.30.40")
		}
		if strings.Contains(name, "-ipv6.") {
			v("fd00:a1b2:c3d4:0:1020:3040:5060:7080")
		}
	case strings.Contains(name, ".host357."):
		if strings.Contains(name, "-ipv4x4-") {
			v("192.168.241.3", "192.168.242.4", "192.168.243.1", "192.168.244.2")
		}
		if strings.Contains(name, "-ipv6x2.") {
			v("fd00:a1b2:c3d4:0:a0b0:c0d0:e0f0:1278", "fd00:a1b2:c3d4:0:a0b0:c0d0:e0f0:3456")
		}
	}
	if out == nil {
		return nil, fmt.Errorf("no such host")
	}
	return out, nil
}

func (hosts) Ether(name string) ([6]byte, error) {
	if strings.HasPrefix(strings.ToLower(name), "eth-") {
		return [6]byte{0xaa, 0, 4, 0, 0x14, 0x0e}, nil
	}
	return [6]byte{}, fmt.Errorf("no such host")
}

func (hosts) Net(name string) (netip.Prefix, error) {
	var a, b, c, d byte
	if _, err := fmt.Sscanf(strings.ToLower(name), "net-%d-%d-%d-%d.", &a, &b, &c, &d); err != nil {
		return netip.Prefix{}, fmt.Errorf("no such network")
	}
	n := 32
	for _, x := range []byte{d, c, b, a} {
		if x != 0 {
			break
		}
		n -= 8
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{a, b, c, d}), n), nil
}

func lines(t *testing.T, name string, each func(line []byte)) {
	t.Helper()
	f, err := os.Open(testkit.Corpus(t, "tap/libpcap-filter/"+name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<22)
	for s.Scan() {
		each(bytes.Clone(s.Bytes()))
	}
}

var options = Options{Resolver: hosts{}, Netmask: netip.MustParsePrefix("192.0.2.0/24")}

// Everything that libpcap accepts for our link types we accept, and what it says about spellings that mean the same is
// the same program.
func TestAccept(t *testing.T) {
	n := 0
	lines(t, "compile-accept.jsonl", func(line []byte) {
		var c struct {
			DLT     string
			Name    string
			Aliases []string
		}
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatal(err)
		}
		link, ok := links[c.DLT]
		if !ok {
			t.Errorf("link type %s", c.DLT)
		}
		if c.Name == "bpf_image" { // a program, no expression
			return
		}
		for _, e := range c.Aliases {
			n++
			opt := options
			opt.Never = true // libpcap finds out only when it optimizes
			if _, err := Compile(e, link, opt); err != nil {
				t.Errorf("%s %s: %q: %v", c.DLT, c.Name, e, err)
			}
		}
	})
	if n < 1000 {
		t.Errorf("only %d expressions", n)
	}
}

func TestReject(t *testing.T) {
	lines(t, "reject.jsonl", func(line []byte) {
		var c struct{ DLT, Name, Expr, Errstr string }
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatal(err)
		}
		link, ok := links[c.DLT]
		if !ok && c.DLT != "PPP_BSDOS" { // its expression is wrong for any link type
			t.Logf("%s: %q is about a file, not an expression", c.DLT, c.Name)
			return
		}
		if _, err := Compile(c.Expr, link, options); err == nil {
			t.Errorf("%s: %q is accepted; libpcap says %q", c.DLT, c.Expr, c.Errstr)
		} else if testing.Verbose() {
			t.Logf("%q: %v", c.Expr, err)
		}
	})
}

// frames reads a capture.
func frames(t *testing.T, path string) []frame.Frame {
	t.Helper()
	src, err := capture.NewFile(capture.FileConfig{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan frame.Batch, 4)
	done := make(chan error, 1)
	go func() { done <- src.Run(context.Background(), out); close(out) }()
	var all []frame.Frame
	for b := range out {
		for _, f := range b.Frames {
			f.Data = bytes.Clone(f.Data)
			all = append(all, f)
		}
		b.Release()
	}
	if err := <-done; err != nil {
		t.Logf("%s: %v", path, err)
	}
	return all
}

func TestApply(t *testing.T) {
	lines(t, "apply.jsonl", func(line []byte) {
		var c struct {
			Expr, Name, Savefile string
			Results              []int
		}
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatal(err)
		}
		fr := frames(t, filepath.Join(testkit.Corpus(t, "tap/libpcap-filter/filter"), c.Savefile))
		if len(fr) == 0 {
			t.Fatalf("%s: no frames", c.Savefile)
		}
		f, err := Compile(c.Expr, fr[0].Link, options)
		if err != nil {
			t.Errorf("%s: %q: %v", c.Name, c.Expr, err)
			return
		}
		if len(fr) != len(c.Results) {
			t.Errorf("%s: %d frames, %d results", c.Name, len(fr), len(c.Results))
			return
		}
		for i := range fr {
			if got, want := f.MatchFrame(&fr[i]), c.Results[i] > 0; got != want {
				t.Errorf("%s: %q: frame %d of %s: got %t", c.Name, c.Expr, i+1, c.Savefile, got)
			}
		}
	})
}
