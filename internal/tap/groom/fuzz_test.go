package groom_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"crosstap/internal/dissect"
	"crosstap/internal/frame"
	"crosstap/internal/testkit"
)

const key = "/key=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

var fuzzLinks = []frame.LinkType{frame.LinkEthernet, frame.LinkRaw, frame.LinkSLL, frame.LinkSLL2, frame.LinkNull, frame.LinkIPv4, frame.LinkIPv6}

// seeds gives a fuzz target frames of our own, and a few of each capture of the corpus where it is there.
func seeds(f *testing.F) {
	s, v := super(3000), inVXLAN(super(2000), 5)
	v.VNet = s.VNet
	v.VNet.CsumStart += 50
	add := func(x frame.Frame) {
		link := slices.Index(fuzzLinks, x.Link)
		if link < 0 || len(x.Data) > 4000 {
			return
		}
		meta := []byte{byte(link), x.VNet.Type}
		meta = binary.BigEndian.AppendUint16(meta, x.VNet.Segment)
		meta = binary.BigEndian.AppendUint16(meta, x.VNet.CsumStart)
		f.Add(append(meta, byte(x.VNet.CsumOffset)), x.Data, uint16(x.OrigLen-len(x.Data)))
	}
	for _, x := range append(imix(20), s, v) {
		add(x)
	}
	dir := os.Getenv("CROSSTAP_CORPUS")
	if dir == "" {
		dir = filepath.Join(filepath.Dir(testkit.ModuleDir(f)), "shared", "corpus")
	}
	paths, _ := filepath.Glob(filepath.Join(dir, "tap", "*", "*.pcap"))
	more, _ := filepath.Glob(filepath.Join(dir, "tap", "zeek", "testing", "btest", "Traces", "tunnels", "*.pcap"))
	other, _ := filepath.Glob(filepath.Join(dir, "tap", "skydive", "flow", "pcaptraces", "*.pcap"))
	for _, path := range append(append(paths, more...), other...) {
		frames := load(f, path)
		for _, x := range frames[:min(len(frames), 2)] {
			add(x)
		}
	}
}

// fuzz grooms any frame with pipelines for specs. With sound, what the dissector does not find malformed must not become so. A
// trailer only keeps what was there: behind a header without a length it reads as more payload, of whatever kind.
func fuzz(f *testing.F, sound bool, specs ...string) {
	seeds(f)
	f.Fuzz(func(t *testing.T, meta, data []byte, cut uint16) {
		if len(meta) < 7 || len(data) == 0 {
			return
		}
		in := frame.Frame{Data: data, OrigLen: len(data) + int(cut), Link: fuzzLinks[int(meta[0])%len(fuzzLinks)], TimeNS: 1, Point: uint32(meta[6])}
		if !sound {
			in.VNet = frame.VNet{Type: meta[1], Segment: binary.BigEndian.Uint16(meta[2:]), NeedsCsum: meta[6] != 0, CsumStart: binary.BigEndian.Uint16(meta[4:]), CsumOffset: uint16(meta[6])}
		}
		was := issues(&in)
		for _, spec := range specs {
			p := pipeline(t, spec)
			for _, out := range apply(t, p, []frame.Frame{in}) {
				for _, g := range out {
					if len(g.Data) > g.OrigLen {
						t.Fatalf("%s: %d of %d bytes", spec, len(g.Data), g.OrigLen)
					}
					if spec == trailer {
						if !bytes.HasPrefix(g.Data, data) {
							t.Fatalf("%s: changed the frame", spec)
						}
						continue
					}
					is := issues(&g)
					if sound && was.Issues&(dissect.Malformed|dissect.Deep) == 0 && is.Issues&dissect.Malformed != 0 {
						t.Fatalf("%s: has become malformed:\n%v %b\n%v %b", spec, was.Layers[:was.NLayers], was.Issues, is.Layers[:is.NLayers], is.Issues)
					}
				}
			}
		}
	})
}

func FuzzRepair(f *testing.F) { fuzz(f, false, "repair", "repair,strip=all,slice=inner-l7+1") }

func FuzzStrip(f *testing.F) {
	fuzz(f, true, "strip=all", "strip=all/link=ethernet", "strip=vlan+vntag+etag+mpls+pppoe+nsh", "strip=gre+ipip", "strip=vxlan+geneve+gtp+tzsp", "strip=erspan+pbb")
}

func FuzzDedup(f *testing.F) {
	fuzz(f, true, "dedup/entries=100", "dedup/inner/ignore=tos+id+seq/entries=8", "dedup/compare=ttl+checksum+vlan+mac/same-point/entries=8")
}

func FuzzSample(f *testing.F) { fuzz(f, true, "sample=1:2/flow/keep", "sample=1:2/random") }

func FuzzSlice(f *testing.F) {
	fuzz(f, true, "slice=l3+4", "slice=l7+0", "slice=inner-l2+20", "slice=inner-l4+5/after=1B/flows=8")
}

func FuzzMask(f *testing.F) {
	fuzz(f, false, "mask=l2:10-40", "mask=l3", "mask=inner-l4:0-", `mask=l7+regex:"[a-z]+"`, "slice=60,mask=inner-l7+addresses+macs"+key)
}

func FuzzPseudonyms(f *testing.F) { fuzz(f, true, "mask=addresses+macs"+key) }

const trailer = "tag=trailer"

func FuzzTag(f *testing.F) { fuzz(f, true, "tag=vlan:9+comment", trailer) }

func FuzzBalance(f *testing.F) { fuzz(f, true, "balance=5", "balance=3/hash=hosts") }
