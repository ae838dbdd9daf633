package ipfix

import (
	"encoding/binary"
	"os"
	"testing"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/decode"
	"crosstap/test/bench/vds"
)

// corpusPayloads are all IPFIX payloads of the corpus, files first.
func corpusPayloads(t testing.TB) (all [][]byte) {
	t.Helper()
	for _, f := range ipfixFiles(t) {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	for _, d := range ipfixDatagrams(t) {
		all = append(all, d.payload)
	}
	return all
}

// shortMessages cuts payload files into messages, so that prefixes stay affordable, and leaves out repetitions of a
// shape: messages with the same sets of the same lengths.
func shortMessages(t testing.TB) (all [][]byte) {
	t.Helper()
	seen := map[string]bool{}
	for _, b := range corpusPayloads(t) {
		for len(b) > 0 {
			n := len(b)
			if h, err := ParseHeader(b); err == nil {
				n = h.Length
			}
			m := b[:n]
			if k := setLengths(m); !seen[k] {
				seen[k] = true
				all = append(all, m)
			}
			b = b[n:]
		}
	}
	return all
}

func setLengths(m []byte) string {
	k := []byte{}
	for off := HeaderLen; off+4 <= len(m); {
		k = append(k, m[off:off+4]...)
		off += max(int(binary.BigEndian.Uint16(m[off+2:])), 4)
	}
	return string(k)
}

// Every prefix of every kind of message, on a session that knows all templates: nothing panics, nothing grows, and whatever
// was not decoded is counted. The length in the header is that of the prefix, so that the sets are read.
func TestEveryPrefix(t *testing.T) {
	msgs := shortMessages(t)
	s := NewSession(Limits{PendingBytes: 4096, Names: 64})
	for _, m := range msgs {
		_, _, _ = s.Decode(m, 0, nil)
	}
	recs := make([]flow.Record, 0, 4096)
	n := 0
	for _, m := range msgs {
		for cut := range m {
			p := append([]byte(nil), m[:cut]...)
			if cut >= HeaderLen {
				p[2], p[3] = byte(cut>>8), byte(cut)
			}
			out, res, err := s.Decode(p, 0, recs[:0])
			if len(out) > 2*cut {
				t.Fatalf("%d records from %d bytes", len(out), cut)
			}
			if sum := total(res.Problems); (err != nil) != (sum > 0) && res.Problems[decode.DomainLimit] == 0 {
				t.Fatalf("error %v, but problems %v", err, res.Problems)
			}
			if _, bytes := s.Pending(); bytes > 4096 {
				t.Fatalf("%d bytes wait", bytes)
			}
			if cut%16 == 0 {
				_, _ = s.Walk(p, 0, showAll)
			}
			n++
		}
	}
	t.Logf("%d prefixes of %d messages", n, len(msgs))
}

func total(p [decode.NumReasons]int) (n int) {
	for _, v := range p {
		n += v
	}
	return n
}

// showAll formats everything that an item holds.
func showAll(it *Item) {
	var b []byte
	for v := range it.Fields() {
		b = v.AppendText(b[:0])
		b = v.AppendJSON(b)
	}
	it.Flow()
}

func FuzzDecode(f *testing.F) {
	vds.Stream(20, vds.VXLAN, func(m []byte) bool {
		f.Add(append([]byte(nil), m...))
		return true
	})
	for _, p := range []Profile{OVS, VMware} {
		for _, m := range encoded(f, EncoderConfig{Profile: p, MaxLen: 1472}, sampleRecords()) {
			f.Add(m)
		}
	}
	f.Add(message(1, 0, set(2, withdrawal(256))))
	f.Add(message(1, 0, set(2, template(256, 85, 3, 86, 5, 291, 65535, 154, 8, 22, 4, 160, 8)), set(256, make([]byte, 40))))
	if os.Getenv("CROSSTAP_FUZZ_CORPUS") != "" {
		for _, m := range shortMessages(f) {
			f.Add(m)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := NewSession(Limits{Templates: 8, Domains: 4, Names: 4, PendingBytes: 1 << 12, PendingSets: 8})
		for range 2 {
			recs, res, err := s.Decode(b, 1, nil)
			if len(recs) > 2*len(b) || s.Templates() > 8 || s.Names() > 4 || s.Domains() > 4 {
				t.Fatalf("%d records, %d templates, %d names", len(recs), s.Templates(), s.Names())
			}
			if sets, n := s.Pending(); sets > 8 || n > 1<<12 {
				t.Fatalf("%d sets with %d bytes wait", sets, n)
			}
			if err == nil && total(res.Problems)-res.Problems[decode.DomainLimit] > 0 {
				t.Fatalf("no error, but problems %v", res.Problems)
			}
			again(t, recs)
		}
		if _, err := s.Walk(b, 1, showAll); err != nil && s.Templates() > 8 {
			t.Fatal(err)
		}
	})
}

// again encodes what was decoded and decodes it anew: what the profile carries stays the same.
func again(t *testing.T, recs []flow.Record) {
	t.Helper()
	if len(recs) == 0 || len(recs) > 100 {
		return
	}
	msgs := encoded(t, EncoderConfig{Profile: OVS, MaxLen: 1472}, recs)
	back := decodeAll(t, msgs)
	if len(back) != len(recs) {
		t.Fatalf("%d records encoded, %d decoded", len(recs), len(back))
	}
	for i := range recs {
		a, b := &recs[i], &back[i]
		if a.Packets != b.Packets || a.Octets != b.Octets || a.SrcMAC != b.SrcMAC && shapeOf(a, OVS).macs || a.Point != b.Point {
			t.Fatalf("record %d: %+v became %+v", i, *a, *b)
		}
	}
}

// A flood of templates, tiny sets and domains in one datagram costs no more than its bytes.
func TestFlood(t *testing.T) {
	s := NewSession(Limits{})
	var templates []byte
	for i := range 8000 {
		templates = append(templates, template(uint16(256+i), 4, 1)...)
	}
	for d := range uint32(6) {
		_, res, _ := s.Decode(message(d, 0, set(2, templates)), int64(d), nil)
		if s.Templates() > 4096 || res.Templates != 8000 {
			t.Fatalf("%d templates kept", s.Templates())
		}
	}
	var tiny []byte
	for i := range 13000 {
		tiny = append(tiny, set(uint16(256+i%60000), []byte{1})...)
	}
	recs, _, _ := s.Decode(message(99, 0, tiny), 9, nil)
	if sets, _ := s.Pending(); sets > 1024 || len(recs) > 13000 {
		t.Errorf("%d sets wait, %d records", sets, len(recs))
	}
}
