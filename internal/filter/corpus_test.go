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

// links are the link types that filters are compiled for, by libpcap's names.
var links = map[string]frame.LinkType{"EN10MB": frame.LinkEthernet, "LINUX_SLL": frame.LinkSLL, "LINUX_SLL2": frame.LinkSLL2, "RAW": frame.LinkRaw,
	"IPV4": frame.LinkIPv4, "IPV6": frame.LinkIPv6, "NULL": frame.LinkNull, "LOOP": frame.LinkLoop}

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
			v("fd00:1:2:3::4")
		}
	case strings.Contains(name, ".host357."):
		if strings.Contains(name, "-ipv4x4-") {
			v("10.20.30.40", "10.20.30.41", "10.20.30.42", "10.20.30.43")
		}
		if strings.Contains(name, "-ipv6x2.") {
			v("fd00::1", "fd00::2")
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
		if !ok || c.Name == "bpf_image" {
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
	if n < 200 {
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
		if !ok {
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
			return
		}
		if !known(fr[0].Link) {
			return
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

func known(l frame.LinkType) bool {
	for _, k := range links {
		if k == l {
			return true
		}
	}
	return false
}
