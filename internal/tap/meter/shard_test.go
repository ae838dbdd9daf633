package meter

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
	"crosstap/internal/frame"
)

// TestShards meters the same frames with one worker and with several: the same records, whichever worker saw the packets.
func TestShards(t *testing.T) {
	frames := randomFrames(rand.New(rand.NewPCG(7, 7)), 3000)
	last := int64(0)
	for i := range frames { // in order of time, as the workers' clocks meet at the batches' ends only
		last = max(last, frames[i].TimeNS)
		frames[i].TimeNS = last
	}
	tunnel := packet{src: "10.0.0.1", dst: "10.0.0.2", proto: 17, payload: 1400, vni: 5001, vtepSrc: "192.0.2.1", vtepDst: "192.0.2.2"}
	for i := range 40 {
		tunnel.vtepDst = fmt.Sprintf("192.0.2.%d", i+2) // the tunnel's fragments and the tenant's packet belong to different workers
		for _, f := range tunnelFragments(tunnel) {
			f.TimeNS = last
			frames = append(frames, f)
		}
	}
	for i := range 300 {
		p := packet{src: fmt.Sprintf("10.9.0.%d", i%7), dst: fmt.Sprintf("10.9.1.%d", i%50), proto: 17, srcPort: uint16(i % 50), dstPort: 53, payload: i}
		frames = append(frames, p.at(float64(last)/1e9))
		p.src, p.dst, p.srcPort, p.dstPort = p.dst, p.src, p.dstPort, p.srcPort
		frames = append(frames, p.at(float64(last)/1e9))
	}
	for _, biflow := range []bool{false, true} {
		c := DefaultConfig()
		c.Biflow = biflow
		want, one := run(t, c, frames)
		for _, workers := range []int{2, 5} {
			c.Workers = workers
			got, m := run(t, c, frames)
			if biflow {
				pairs(t, got)
			}
			a, b := append([]flow.Record(nil), want...), got
			sortRecords(a)
			sortRecords(b)
			if diff := gocmp.Diff(a, b); diff != "" {
				t.Errorf("%d workers, biflow %t: (-one +several)\n%.2000s", workers, biflow, diff)
			}
			if one.Stats() != m.Stats() {
				t.Errorf("%d workers: %+v, one: %+v", workers, m.Stats(), one.Stats())
			}
		}
	}
}

// pairs checks that every reverse record stands behind its forward half.
func pairs(t *testing.T, records []flow.Record) {
	t.Helper()
	n := 0
	for i, r := range records {
		if !r.Is(flow.MarkReverse) {
			continue
		}
		n++
		if i == 0 || records[i-1].Is(flow.MarkReverse) || records[i-1].Src != r.Dst || records[i-1].SrcPort != r.DstPort || records[i-1].Segment != r.Segment {
			t.Errorf("record %d follows no half of its own", i)
		}
	}
	if n == 0 {
		t.Error("no pairs")
	}
}

// TestShardOf says that both directions and all fragments go to one worker, and that workers share the work.
func TestShardOf(t *testing.T) {
	h := newHasher()
	f := sorter{front: front{hasher: &h}, ways: make([]chan *parcel, 4)}
	var load [4]int
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 4000 {
		var k, back key
		for i := range k {
			k[i] = rnd.Uint64()
		}
		k[2] = k[2]&^(0xff<<24) | 17<<24
		k.reverse(&back)
		fragment := k
		fragment.setPorts(0)
		n := f.shard(&k)
		if f.shard(&back) != n || f.shard(&fragment) != n {
			t.Fatalf("%x: worker %d, backwards %d, fragment %d", k, n, f.shard(&back), f.shard(&fragment))
		}
		load[n]++
	}
	for _, n := range load {
		if n < 800 {
			t.Errorf("unevenly: %v", load)
		}
	}
}

// TestShardsFull bounds the flows of all workers together. A worker that is done leaves its room to the others.
func TestShardsFull(t *testing.T) {
	c := DefaultConfig()
	c.MaxFlows, c.Workers = 100, 4
	var frames []frame.Frame
	for i := range 5000 {
		p := packet{src: "10.0.0.1", dst: fmt.Sprintf("10.0.%d.%d", i>>8, i&255), proto: 17, srcPort: uint16(i), dstPort: 53}
		frames = append(frames, p.at(1))
	}
	got, m := run(t, c, frames)
	packets, evicted := uint64(0), uint64(0)
	for _, r := range got {
		packets += r.Packets
		if r.EndReason == flow.EndResource {
			evicted++
		}
	}
	if packets != 5000 || evicted != m.Stats().Evicted || evicted < 5000-4*100 {
		t.Errorf("%d packets, %d ended early, %+v", packets, evicted, m.Stats())
	}
}

// TestShardsLive ends flows by the clock in every worker.
func TestShardsLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := DefaultConfig()
		c.Live, c.Workers = true, 3
		m, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		in, out := make(chan frame.Batch), make(chan []flow.Record, 64)
		done := make(chan error, 1)
		go func() { done <- m.Run(t.Context(), in, out) }()
		var frames []frame.Frame
		for i := range 30 {
			frames = append(frames, packet{src: "10.0.0.1", dst: fmt.Sprintf("10.0.1.%d", i), proto: 17}.at(5))
		}
		in <- frame.Batch{Frames: frames}
		time.Sleep(14 * time.Second)
		if len(out) != 0 {
			t.Error("a record before the idle timeout")
		}
		time.Sleep(2 * time.Second)
		n := 0
		for len(out) > 0 {
			n += len(<-out)
		}
		if n != 30 {
			t.Errorf("%d records", n)
		}
		close(in)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestShardsStopped ends Run while nobody takes the records.
func TestShardsStopped(t *testing.T) {
	c := DefaultConfig()
	c.Workers = 4
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	in := make(chan frame.Batch)
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx, in, make(chan []flow.Record)) }()
	p := packet{src: "10.0.0.1", dst: "10.0.0.2", proto: 17}
	in <- frame.Batch{Frames: []frame.Frame{p.at(1), p.at(1000)}}
	time.AfterFunc(10*time.Millisecond, cancel)
	if err := <-done; err != context.Canceled {
		t.Error(err)
	}
}
