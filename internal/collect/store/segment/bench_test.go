package segment

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/flow"
)

// world makes records like those of a small data centre: 6,000 VMs on 120 hosts, 40 tenants with overlapping addresses,
// 200 segments, 60,000 client-to-server edges with Zipf weights, one record in ten of IPv6. Packet and
// octet counts, ports and times carry the entropy.
type world struct {
	rnd   *rand.Rand
	zipf  *rand.Zipf
	edges []edge
	now   int64
}

type edge struct {
	rec      flow.Record
	size     uint64
	id, back uint64 // of flow identifiers, without the ports
}

// pairID stands for the hash of what the flows from one machine to another share.
func pairID(seg flow.Segment, a, b int) uint64 {
	return (uint64(seg)<<16 + uint64(a)<<8 + uint64(b) + 1) * 0x9e3779b97f4a7c15
}

func ports(r *flow.Record) uint64 { return uint64(r.SrcPort)<<48 | uint64(r.DstPort)<<32 }

func newWorld(seed uint64) *world {
	w := &world{rnd: rand.New(rand.NewPCG(seed, 7)), now: base}
	w.zipf = rand.NewZipf(w.rnd, 1.1, 20, 59_999)
	apps := []string{"http", "https", "postgres", "dns", "redis", "ssh", "kafka", "nfs"}
	ports := []uint16{80, 443, 5432, 53, 6379, 22, 9092, 2049}
	for range 60_000 {
		seg := w.rnd.IntN(200)
		a, b, app := w.rnd.IntN(30), w.rnd.IntN(30), w.rnd.IntN(len(apps))
		vm := func(i int) (string, flow.Addr, flow.MAC, int) {
			n := seg*30 + i
			addr := flow.V4([]byte{10, byte(seg / 40), byte(seg % 4), byte(i + 1)})
			if seg%10 == 0 {
				v6 := [16]byte{0: 0xfd, 7: byte(seg), 15: byte(i + 1)}
				addr = flow.V6(v6[:])
			}
			return fmt.Sprintf("%s-%s-%02d", []string{"web", "db", "mq", "api"}[i%4], []string{"blue", "red", "rose", "green"}[seg%4], n), addr,
				flow.MAC(0x020000000000 + n), n % 120
		}
		var r flow.Record
		var h1, h2 int
		r.SrcVM, r.Src, r.SrcMAC, h1 = vm(a)
		r.DstVM, r.Dst, r.DstMAC, h2 = vm(b)
		r.SrcHost, r.DstHost = fmt.Sprintf("esx-%03d", h1), fmt.Sprintf("esx-%03d", h2)
		r.Tunnel = flow.Tunnel{Src: flow.V4([]byte{172, 16, byte(h1), 1}), Dst: flow.V4([]byte{172, 16, byte(h2), 1}), DstPort: 4789, Proto: 17, Type: 1}
		r.Segment, r.Tenant, r.Fabric = flow.NewSegment(flow.KindVXLAN, uint32(5000+seg)), fmt.Sprintf("tenant-%02d", seg%40), "default"
		r.App, r.DstPort, r.Proto, r.Client = apps[app], ports[app], 6, flow.ClientSrc
		if app == 3 {
			r.Proto = 17
		}
		r.Exporter, r.Domain, r.ObserverID, r.Observer, r.ObserverHost = flow.V4([]byte{172, 16, byte(h1), 1}), 1, uint64(h1)*0x9e3779b97f4a7c15, r.SrcHost+" port", r.SrcHost
		r.Role, r.EtherType, r.MinTTL, r.MaxTTL, r.Marks = flow.RolePort, 0x0800, 64, 64, flow.MarkCanonical
		w.edges = append(w.edges, edge{r, uint64(100 + w.rnd.IntN(1300)), pairID(r.Segment, a, b), pairID(r.Segment, b, a)})
	}
	return w
}

// fill makes the next records, four to a conversation: forward and reverse, each seen at the port of the sender's host and at the
// tunnel endpoint of the receiver's.
func (w *world) fill(recs []flow.Record) {
	for i := 0; i+3 < len(recs); i += 4 {
		e := &w.edges[w.zipf.Uint64()]
		w.now += 7e6
		r := &recs[i]
		*r = e.rec
		r.EndNS = w.now - w.rnd.Int64N(2e9)
		r.StartNS = r.EndNS - w.rnd.Int64N(30e9)
		r.RecvNS = w.now
		r.SrcPort = uint16(32768 + w.rnd.IntN(28000))
		r.Tunnel.SrcPort = uint16(49152 + w.rnd.IntN(16000))
		r.Packets = 1 + uint64(w.rnd.ExpFloat64()*12)
		r.Octets = r.Packets*e.size + uint64(w.rnd.IntN(200))
		r.L2Octets = r.Octets + 14*r.Packets
		r.TCPFlags, r.EndReason = 0x1b, flow.EndReason(1+w.rnd.IntN(3))
		r.FlowID = e.id ^ ports(r)
		back := &recs[i+1]
		*back = *r
		back.Src, back.Dst, back.SrcPort, back.DstPort, back.SrcMAC, back.DstMAC = r.Dst, r.Src, r.DstPort, r.SrcPort, r.DstMAC, r.SrcMAC
		back.SrcVM, back.DstVM, back.SrcHost, back.DstHost, back.Client = r.DstVM, r.SrcVM, r.DstHost, r.SrcHost, flow.ClientDst
		back.Tunnel.Src, back.Tunnel.Dst = r.Tunnel.Dst, r.Tunnel.Src
		back.Packets = 1 + uint64(w.rnd.ExpFloat64()*12)
		back.Octets = back.Packets*e.size + uint64(w.rnd.IntN(200))
		back.L2Octets, back.FlowID = back.Octets+14*back.Packets, e.back^ports(back)
		for k := range 2 {
			port, tunnel := &recs[i+k], &recs[i+2+k]
			*tunnel = *port
			tunnel.Marks, tunnel.Role, tunnel.Observer, tunnel.ObserverHost = 0, flow.RoleTunnel, port.DstHost+" tunnel", port.DstHost
			tunnel.ObserverID, tunnel.Exporter, tunnel.Direction = ^port.ObserverID, port.Tunnel.Dst, 0
			tunnel.StartNS, tunnel.EndNS = port.StartNS+w.rnd.Int64N(2e6), port.EndNS+w.rnd.Int64N(2e6)
			port.Tunnel = flow.Tunnel{}
		}
	}
}

// BenchmarkAppend: rows to durable level 0 files, with the generator's time taken out.
func BenchmarkAppend(b *testing.B) {
	w := newWorld(1)
	batches := make([][]flow.Record, 64)
	for i := range batches {
		batches[i] = make([]flow.Record, 500)
		w.fill(batches[i])
	}
	s := open(b, Config{SealRows: 1 << 30, MergeFiles: 1 << 30, AppendWait: time.Minute})
	b.ReportAllocs()
	cpu := cpuTime()
	n := 0
	for b.Loop() {
		if err := s.Append(b.Context(), batches[n%len(batches)]); err != nil {
			b.Fatal(err)
		}
		n++
	}
	if err := s.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	st := s.Stats()
	b.ReportMetric(float64(st.Rows)/(cpuTime()-cpu).Seconds(), "rows/cpu-s")
	b.ReportMetric(float64(st.Rows)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(st.Bytes)/float64(st.Rows), "B/row")
}

// BenchmarkSeal: 400,000 rows in level 0 files to a sealed hour.
func BenchmarkSeal(b *testing.B) {
	const rows = 400_000
	for b.Loop() {
		b.StopTimer()
		w := newWorld(1)
		later := time.Unix(0, base)
		s := open(b, Config{SealRows: 500_000, MergeFiles: 1 << 30, AppendWait: time.Minute, Now: func() time.Time { return later }})
		s.keep.Lock()
		batch := make([]flow.Record, 500)
		for range rows / len(batch) {
			w.fill(batch)
			if err := s.Append(b.Context(), batch); err != nil {
				b.Fatal(err)
			}
		}
		if err := s.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
		level0 := s.Stats()
		later = later.Add(3 * time.Hour)
		s.keep.Unlock()
		cpu := cpuTime()
		b.StartTimer()
		if err := s.Tidy(); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		st := s.Stats()
		b.ReportMetric(float64(st.Rows)/(cpuTime()-cpu).Seconds(), "rows/cpu-s")
		b.ReportMetric(float64(level0.Bytes)/float64(level0.Rows), "level0-B/row")
		b.ReportMetric(float64(st.Bytes)/float64(st.Rows), "sealed-B/row")
		b.ReportMetric(float64(st.RollupBytes)/float64(st.Rows), "rollup-B/row")
		b.ReportMetric(float64(st.Rows)/float64(max(st.RollupRows, 1)), "rows/rollup")
		logColumns(b, "sealed", st.Rows, columnBytes(b, s, sortedFiles(s.man.live)))
		logColumns(b, "roll-up", st.Rows, columnBytes(b, s, sortedFiles(s.man.rolls)))
		if st.SealedFiles != st.Files {
			b.Fatalf("%d of %d files sealed", st.SealedFiles, st.Files)
		}
		s.Close()
		b.StartTimer()
	}
}

// cpuTime is the processor time of the whole process.
func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
