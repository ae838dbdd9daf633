package meter

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
	"crosstap/internal/frame"
)

// streams returns n frames of a few conversations in the order of their times, most of them segments in sequence: what a flow in brief is made for,
// and all that it is not.
func streams(rnd *rand.Rand, n int) []frame.Frame {
	var all []frame.Frame
	seq, now := [8]uint32{}, int64(1e18)
	for len(all) < n {
		i := rnd.IntN(len(seq))
		p := packet{src: "10.0.0.1", dst: "10.0.0.2", proto: 6, srcPort: uint16(i / 2), dstPort: 80, flags: tcpACK, ttl: 64, payload: rnd.IntN(40)}
		if i%2 == 1 {
			p.src, p.dst, p.srcPort, p.dstPort = p.dst, p.src, p.dstPort, p.srcPort
		}
		rare := func(n int) bool { return rnd.IntN(n) == 0 }
		switch {
		case rare(20):
			p.flags = uint8(rnd.IntN(64))
		case rare(20):
			p.ttl, p.vlan = uint8(rnd.IntN(256)), uint16(rnd.IntN(2)*100)
		case rare(20):
			seq[i] += uint32(rnd.IntN(200) - 100)
		case rare(20):
			p.more = true
		case rare(3):
			p.proto = 17
		case rare(20):
			p.src, p.dst = "fd00::1", "fd00::2"
		}
		switch {
		case rare(200):
			now += int64(rnd.IntN(100)) * 1e9 // flows end, some of them while they are busy
		default:
			now += int64(rnd.IntN(1e8))
		}
		f := p.at(0)
		f.TimeNS = now
		if request := "GET / HTTP/1.1\r\nHost: a\r\n\r\n"; p.payload > len(request) && rare(2) {
			copy(f.Data[len(f.Data)-p.payload:], request)
		}
		if rare(10) {
			f.TimeNS -= int64(rnd.IntN(1e9))
		}
		if p.proto == 6 && p.vlan == 0 && p.src[0] == '1' {
			binary.BigEndian.PutUint32(f.Data[14+20+4:], seq[i])
			seq[i] += uint32(p.payload)
			if rare(50) {
				f.Data[14+20+14], f.Data[14+20+15] = 0, 0 // no window
			}
			if rare(30) {
				f.VNet = frame.VNet{Type: frame.GSOTCPv4, Segment: 10}
			}
		}
		f.Point, f.Dir = uint32(rnd.IntN(2)*rnd.IntN(2)*70000), frame.Direction(rnd.IntN(20)/19)
		if rare(50) {
			f.Data = f.Data[:rnd.IntN(len(f.Data))]
		}
		all = append(all, f)
	}
	return all
}

// TestBriefIsTheSame meters frames by way of what is counted in brief, and each as an arrival: the same records, in the same order, and the same books.
func TestBriefIsTheSame(t *testing.T) {
	for seed := range uint64(3) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		frames := append(streams(rnd, 8000), randomFrames(rnd, 500)...)
		for _, biflow := range []bool{false, true} {
			c := DefaultConfig()
			c.Biflow, c.Key, c.IdleTimeout, c.ActiveTimeout = biflow, Key(seed%3), 3*time.Second, 20*time.Second
			var records [2][]flow.Record
			var books [2]any
			for i := range records {
				m, s := newSingle(t, c, func(r []flow.Record) { records[i] = append(records[i], r...) })
				for rest := frames; len(rest) > 0; {
					n := min(len(rest), 1+int(seed)*20)
					if i == 0 {
						s.batch(rest[:n])
					} else {
						s.inFull(rest[:n])
					}
					rest = rest[n:]
				}
				if err := s.end(); err != nil {
					t.Fatal(err)
				}
				books[i] = []any{m.Books()[0].Read(), m.Books()[1].Read(), m.Stats()}
			}
			if len(records[0]) < 100 {
				t.Errorf("%d records", len(records[0]))
			}
			if diff := gocmp.Diff(records[1], records[0]); diff != "" {
				t.Errorf("seed %d, biflow %t: (-in full +in brief)\n%.2000s", seed, biflow, diff)
			}
			if diff := gocmp.Diff(books[1], books[0]); diff != "" {
				t.Errorf("seed %d, biflow %t: (-in full +in brief)\n%s", seed, biflow, diff)
			}
		}
	}
}

// inFull is batch with an arrival for each frame.
func (s *single) inFull(frames []frame.Frame) {
	s.shard.frames.In(len(frames))
	for i := range frames {
		var a [1]arrival
		var pc [1]piece
		if s.arrive(&a[0], &pc[0], &frames[i]) {
			s.arrivals(a[:], pc[:])
		}
	}
}

// TestBriefTakes counts in brief what follows the first packets of a flow, and nothing that opens or ends a connection.
func TestBriefTakes(t *testing.T) {
	_, s := newSingle(t, DefaultConfig(), func([]flow.Record) {})
	for _, proto := range []uint8{6, 17} {
		p := packet{src: "10.0.0.1", dst: "10.0.0.2", proto: proto, srcPort: 1, dstPort: 2, flags: tcpACK, vlan: 7}
		takes := func() bool {
			f := p.at(1)
			var q brief
			if s.brief(&q, &f) != wayBrief {
				return false
			}
			number, _ := s.cache.likely(q.hash)
			q.hash = uint64(number)
			return s.quick(&q)
		}
		if takes() {
			t.Errorf("protocol %d: a flow that is not there", proto)
		}
		for range 50 {
			s.batch([]frame.Frame{p.at(1)})
		}
		if !takes() {
			t.Errorf("protocol %d: not the packet of a flow that is there", proto)
		}
		if p.flags |= tcpFIN; proto == 6 && takes() {
			t.Error("the end of a connection")
		}
		p.flags, p.src = tcpACK, "10.0.0.3"
		if takes() {
			t.Errorf("protocol %d: another flow", proto)
		}
	}
}
