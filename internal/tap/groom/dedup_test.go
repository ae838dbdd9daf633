package groom_test

import (
	"fmt"
	"math/rand"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/frame"
	"crosstap/internal/testkit"
)

const ms = int64(time.Millisecond)

// passes returns the indexes of the frames that pass.
func passes(t *testing.T, flags string, frames []frame.Frame) []int {
	t.Helper()
	p := pipeline(t, flags)
	var all []int
	for i := range frames {
		if len(apply(t, p, frames[i:i+1])[0]) == 1 {
			all = append(all, i)
		}
	}
	return all
}

// TestDedupDecides follows the rules by hand: a capture of labelled frames for each.
func TestDedupDecides(t *testing.T) {
	data := packet{src: 1, dst: 2, srcPort: 1000, dstPort: 80, id: 7, ttl: 64, mac: 1, tcp: true, flags: 0x18, seq: 100, payload: []byte("GET / HTTP/1.1\r\n")}
	type seen struct {
		p     packet
		at    int64 // milliseconds
		point uint32
	}
	routed := data
	routed.ttl, routed.mac, routed.vlan = 63, 9, 20
	marked := data
	marked.tos = 0x28
	renumbered := data
	renumbered.id = 8
	f := func(what, flags string, frames []seen, want ...int) {
		t.Helper()
		var all []frame.Frame
		for _, s := range frames {
			all = append(all, s.p.frame(s.at*ms, s.point))
		}
		if diff := cmp.Diff(want, passes(t, flags, all)); diff != "" {
			t.Errorf("%s: %s: (-want, +got passed)\n%s", what, flags, diff)
		}
	}
	f("the same frame at two points", "dedup", []seen{{data, 0, 0}, {data, 1, 1}}, 0)
	f("at three", "dedup", []seen{{data, 0, 0}, {data, 1, 1}, {data, 2, 2}}, 0)
	f("routed in between", "dedup", []seen{{data, 0, 0}, {routed, 1, 1}}, 0)
	f("routed in between, hops compared", "dedup/compare=ttl", []seen{{data, 0, 0}, {routed, 1, 1}}, 0, 1)
	f("addresses of the link compared", "dedup/compare=mac", []seen{{data, 0, 0}, {routed, 1, 1}}, 0, 1)
	f("tags compared", "dedup/compare=vlan", []seen{{data, 0, 0}, {routed, 1, 1}}, 0, 1)
	f("marked in between", "dedup", []seen{{data, 0, 0}, {marked, 1, 1}}, 0, 1)
	f("marked in between, mark ignored", "dedup/ignore=tos", []seen{{data, 0, 0}, {marked, 1, 1}}, 0)
	f("another identification", "dedup", []seen{{data, 0, 0}, {renumbered, 1, 1}}, 0, 1)
	f("another identification, ignored", "dedup/ignore=id", []seen{{data, 0, 0}, {renumbered, 1, 1}}, 0)
	f("at the window's end", "dedup", []seen{{data, 0, 0}, {data, 50, 1}}, 0)
	f("behind it", "dedup", []seen{{data, 0, 0}, {data, 51, 1}}, 0, 1)
	f("a longer window", "dedup=100ms", []seen{{data, 0, 0}, {data, 51, 1}}, 0)
	f("points read out of order", "dedup", []seen{{data, 10, 1}, {data, 9, 0}}, 0)
	f("sent twice, bit for bit", "dedup", []seen{{data, 0, 0}, {data, 5, 0}}, 0, 1)
	f("sent twice, and both copied", "dedup", []seen{{data, 0, 0}, {data, 1, 1}, {data, 5, 0}, {data, 6, 1}}, 0, 2)
	f("sent twice, copies late", "dedup", []seen{{data, 0, 0}, {data, 5, 0}, {data, 6, 1}, {data, 7, 1}}, 0, 1)
	f("a third copy of two", "dedup", []seen{{data, 0, 0}, {data, 5, 0}, {data, 6, 1}, {data, 7, 1}, {data, 8, 1}}, 0, 1, 4)
	f("one point asked for", "dedup/same-point", []seen{{data, 0, 0}, {data, 5, 0}}, 0)
	f("one point asked for, later", "dedup/same-point", []seen{{data, 0, 0}, {data, 51, 0}}, 0, 1)
	f("retransmitted after the least timeout", "dedup/same-point", []seen{{data, 0, 0}, {data, 200, 0}}, 0, 1)
	f("within two frames", "dedup/packets=2", []seen{{data, 0, 0}, {marked, 1, 0}, {data, 2, 1}}, 0, 1)
	f("not within one", "dedup/packets=1", []seen{{data, 0, 0}, {marked, 1, 0}, {data, 2, 1}}, 0, 1, 2)
	f("only counted", "dedup/count", []seen{{data, 0, 0}, {data, 1, 1}}, 0, 1)

	var rtp []seen // one header of IP and UDP for all, a packet every 20 ms, each copied at two points
	var want []int
	for i := range 20 {
		p := packet{src: 3, dst: 4, srcPort: 4000, dstPort: 4002, ttl: 64, mac: 3, payload: append([]byte{0x80, 0, 0, byte(i), 0, 0, 0, byte(i * 160), 1, 2, 3, 4}, make([]byte, 160)...)}
		rtp = append(rtp, seen{p, int64(20 * i), 0}, seen{p, int64(20*i) + 1, 1})
		want = append(want, 2*i)
	}
	f("RTP", "dedup", rtp, want...)
}

// TestDedupIsTheObviousThing compares with a list of everything that passed, on random frames.
func TestDedupIsTheObviousThing(t *testing.T) {
	type original struct {
		key   string
		at    int64
		point map[uint32]bool
	}
	for seed := range int64(20) {
		r := rand.New(rand.NewSource(seed))
		var frames []frame.Frame
		var keys []string
		for now := int64(1e9); len(frames) < 2000; now += r.Int63n(4 * ms) {
			p := packet{src: 1, dst: 2, srcPort: uint16(r.Intn(3)), dstPort: 80, id: uint16(r.Intn(2)), ttl: byte(r.Intn(200)), mac: byte(r.Intn(5)),
				vlan: uint16(r.Intn(2) * 7), tcp: r.Intn(2) == 0, seq: uint32(r.Intn(2)), payload: make([]byte, r.Intn(2)*40)}
			if n := len(p.payload); n > 0 {
				p.payload[n-1] = byte(r.Intn(2))
			}
			if !p.tcp {
				p.seq = 0
			}
			frames = append(frames, p.frame(now-r.Int63n(ms), uint32(r.Intn(4))))
			keys = append(keys, fmt.Sprint(p.srcPort, p.id, p.tcp, p.seq, p.payload))
		}
		var want []int
		var list []*original
		for i, f := range frames {
			var first *original
			for _, o := range list {
				if age := f.TimeNS - o.at; o.key == keys[i] && age <= 50*ms && -age <= 50*ms && !o.point[f.Point] && (first == nil || o.at < first.at) {
					first = o
				}
			}
			if first != nil {
				first.point[f.Point] = true
				continue
			}
			want = append(want, i)
			list = append(list, &original{keys[i], f.TimeNS, map[uint32]bool{f.Point: true}})
		}
		if diff := cmp.Diff(want, passes(t, "dedup", frames)); diff != "" {
			t.Fatalf("seed %d: (-obvious, +ours)\n%s", seed, diff)
		}
	}
}

// TestDedupIsEditcap finds the duplicates that editcap finds when whole frames are compared.
func TestDedupIsEditcap(t *testing.T) {
	editcap := testkit.Tool(t, "editcap")
	r := rand.New(rand.NewSource(1))
	var frames []frame.Frame
	for now := int64(1e9); len(frames) < 5000; now += r.Int63n(2 * ms) {
		p := packet{src: byte(r.Intn(30)), dst: 2, srcPort: 1, dstPort: 2, ttl: byte(r.Intn(2)), payload: make([]byte, r.Intn(3))}
		frames = append(frames, p.frame(now, 0))
	}
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.pcap"), filepath.Join(dir, "out.pcap")
	save(t, in, frame.LinkEthernet, frames)
	f := func(flags string, args ...string) {
		t.Helper()
		if b, err := exec.Command(editcap, append(append([]string{"-F", "nsecpcap"}, args...), in, out)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		equal(t, flags, load(t, out), apply(t, pipeline(t, flags), frames)[0])
	}
	f("dedup=50ms/same-point/frame", "-w", "0.05")
	f("dedup=3ms/same-point/frame", "-w", "0.003")
	f("dedup=1h/same-point/frame/packets=4", "-D", "5")
	f("dedup=1h/same-point/frame/packets=99", "-D", "100")
}

func TestDedupWarnsOfOnePoint(t *testing.T) {
	f := func(flags string, points int, want int) {
		t.Helper()
		p := pipeline(t, flags)
		for i := range points {
			apply(t, p, []frame.Frame{packet{src: 1, ttl: 64}.frame(int64(i), uint32(i))})
		}
		if got := p.Warnings(); len(got) != want {
			t.Errorf("%s with frames of %d points: %q", flags, points, got)
		}
	}
	f("dedup", 0, 0)
	f("dedup", 1, 1)
	f("dedup", 2, 0)
	f("dedup/same-point", 1, 0)
	f("repair", 1, 0)
}
