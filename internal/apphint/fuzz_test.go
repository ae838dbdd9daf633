package apphint

import (
	"testing"
	"unicode/utf8"

	"crosstap/internal/flow"
)

// FuzzLook looks at any bytes, whole and in two pieces: names keep their bounds, and nothing is told without a reason.
func FuzzLook(f *testing.F) {
	f.Add([]byte(record(hello("a.example", 9, "h2"))), uint8(6), uint16(443), uint16(20))
	f.Add([]byte("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n"), uint8(6), uint16(80), uint16(5))
	f.Add([]byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01"), uint8(17), uint16(53), uint16(13))
	f.Add(sample(0), uint8(17), uint16(443), uint16(1))
	f.Add(sample(1), uint8(17), uint16(443), uint16(1))
	f.Fuzz(func(t *testing.T, b []byte, proto uint8, port, cut uint16) {
		in, part := New(), new(Part)
		check := func(h Hint) {
			if len(h.Name) > MaxName || !utf8.Valid(h.Name) || (h.App == Unknown) != (h.How == flow.AppUnknown) || h.App >= numApps {
				t.Errorf("%+v", h)
			}
		}
		p := &Packet{Proto: proto, SrcPort: 40000, DstPort: port, Payload: b}
		check(in.Look(p, nil))
		n := min(int(cut), len(b))
		p.Payload = b[:n]
		check(in.Look(p, part))
		p.Payload, p.Seq = b[n:], uint32(n)
		check(in.Look(p, part))
		plain := make([]byte, 0, len(b))
		cryptoFrames(part, append(plain, b...))
	})
}
