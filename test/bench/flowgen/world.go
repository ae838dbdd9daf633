package main

import (
	"fmt"
	"math/rand/v2"

	"crosstap/internal/flow"
)

// The world: hosts, segments and tenants of a data centre, and who talks to whom.
const (
	hosts    = 120
	tenants  = 50
	segments = 200
	// firstSegment is the VNI of the first.
	firstSegment = 5000
	perSegment   = 30 // machines
	edges        = 60_000
	outside      = 12 // one conversation in that many is with an address outside
)

// world makes flow records. One conversation in four is of IPv6 when its segment is a tenth one; packet and octet counts, ports, times and the
// addresses outside carry the entropy.
type world struct {
	rnd       *rand.Rand
	zipf      *rand.Zipf
	edges     []flow.Record
	sizes     []uint64
	now, step int64
	observers int
	places    map[[2]string]flow.Record
}

// newWorld makes the world of a seed, with rows from startNS on, stepNS apart.
func newWorld(seed uint64, observers int, startNS, stepNS int64) *world {
	w := &world{rnd: rand.New(rand.NewPCG(seed, 7)), now: startNS, step: stepNS, observers: observers, places: map[[2]string]flow.Record{}}
	w.zipf = rand.NewZipf(w.rnd, 1.1, 20, edges-1)
	for range edges {
		w.edges = append(w.edges, w.edge())
		w.sizes = append(w.sizes, uint64(100+w.rnd.IntN(1300)))
	}
	return w
}

var (
	apps  = []string{"http", "https", "postgres", "dns", "redis", "ssh", "kafka", "nfs"}
	ports = []uint16{80, 443, 5432, 53, 6379, 22, 9092, 2049}
)

// edge is what all flows from one client machine to one service have in common.
func (w *world) edge() (r flow.Record) {
	seg, app := w.rnd.IntN(segments), w.rnd.IntN(len(apps))
	a, b := w.rnd.IntN(perSegment), w.rnd.IntN(perSegment)
	r.Src, r.SrcVM, r.SrcVMID, r.SrcMAC, r.SrcHost = machine(seg, a)
	r.Dst, r.DstVM, r.DstVMID, r.DstMAC, r.DstHost = machine(seg, b)
	r.Segment, r.Fabric, r.Tenant = flow.NewSegment(flow.KindVXLAN, uint32(firstSegment+seg)), "default", fmt.Sprintf("tenant-%02d", seg%tenants)
	r.SrcTenant, r.DstTenant = r.Tenant, r.Tenant
	r.App, r.AppHow, r.DstPort, r.Proto, r.Client = apps[app], flow.AppPort, ports[app], 6, flow.ClientSrc
	if app == 3 {
		r.Proto = 17
	}
	r.EtherType, r.MinTTL, r.MaxTTL, r.MinLen, r.MaxLen, r.Role = 0x0800, 64, 64, 52, 1500, flow.RolePort
	r.FlowID = pairID(seg, a, b) // completed by the ports
	return r
}

func machine(seg, i int) (addr flow.Addr, name, id string, mac flow.MAC, host string) {
	n := seg*perSegment + i
	addr = flow.V4([]byte{10, byte(seg / 40), byte(seg % 4), byte(i + 1)})
	if seg%10 == 0 {
		v6 := [16]byte{0: 0xfd, 7: byte(seg), 15: byte(i + 1)}
		addr = flow.V6(v6[:])
	}
	name = fmt.Sprintf("%s-%04d", []string{"web", "db", "mq", "api"}[i%4], n)
	return addr, name, fmt.Sprintf("vm-%08x", uint32(n)*2654435761), flow.MAC(0x020000000000 + n), fmt.Sprintf("esx-%03d", n%hosts)
}

// pairID stands for the hash that package enrich makes of what the flows between two machines share.
func pairID(seg, a, b int) uint64 {
	return (uint64(seg)<<16 + uint64(a)<<8 + uint64(b) + 1) * 0x9e3779b97f4a7c15
}

// fill makes the next rows: a conversation gives one each way for each observer.
func (w *world) fill(recs []flow.Record) int {
	n := 0
	for ; n+2*w.observers <= len(recs); n += 2 * w.observers {
		e := w.zipf.Uint64()
		w.now += w.step * int64(2*w.observers)
		fwd, back := &recs[n], &recs[n+1]
		*fwd = w.edges[e]
		w.vary(fwd, w.sizes[e])
		*back = turned(fwd)
		w.count(back, w.sizes[e])
		for i := range 2 {
			r := &recs[n+i]
			r.FlowID ^= uint64(r.SrcPort)<<48 | uint64(r.DstPort)<<32
			if w.observers == 2 {
				recs[n+2+i] = w.tunnel(r)
			}
		}
	}
	return n
}

// vary sets what differs from flow to flow.
func (w *world) vary(r *flow.Record, size uint64) {
	if w.rnd.IntN(outside) == 0 {
		r.Dst = flow.V4([]byte{byte(20 + w.rnd.IntN(150)), byte(w.rnd.Uint32()), byte(w.rnd.Uint32()), byte(w.rnd.Uint32())})
		r.DstVM, r.DstVMID, r.DstHost, r.DstTenant, r.DstMAC = "", "", "", "", 0x02ffffffffff
		r.FlowID = w.rnd.Uint64()
	}
	r.EndNS = w.now - w.rnd.Int64N(2e9)
	r.StartNS, r.RecvNS = r.EndNS-w.rnd.Int64N(30e9), w.now
	r.SrcPort = uint16(32768 + w.rnd.IntN(28000))
	r.TCPFlags, r.EndReason, r.Marks = 0x1b, flow.EndReason(1+w.rnd.IntN(3)), flow.MarkCanonical
	if r.Proto == 6 && w.rnd.IntN(3) == 0 {
		r.RTTUS = 200 + uint32(w.rnd.ExpFloat64()*300)
	}
	w.count(r, size)
	w.observedAt(r, r.SrcHost, "port")
}

func (w *world) count(r *flow.Record, size uint64) {
	r.Packets = 1 + uint64(w.rnd.ExpFloat64()*12)
	r.Octets = r.Packets*size + uint64(w.rnd.IntN(200))
	r.L2Octets = r.Octets + 14*r.Packets
}

func (w *world) observedAt(r *flow.Record, host, place string) {
	at := [2]string{host, place}
	o, ok := w.places[at]
	if !ok {
		n := uint32(len(w.places))
		o = flow.Record{Exporter: flow.V4([]byte{172, 16, byte(n), 1}), Observer: host + " " + place, ObserverID: uint64(n+1) * 0x9e3779b97f4a7c15}
		w.places[at] = o
	}
	r.Exporter, r.Domain, r.Observer, r.ObserverHost, r.ObserverID = o.Exporter, 1, o.Observer, host, o.ObserverID
}

// turned is the way back.
func turned(r *flow.Record) flow.Record {
	b := *r
	b.Src, b.Dst, b.SrcPort, b.DstPort, b.SrcMAC, b.DstMAC = r.Dst, r.Src, r.DstPort, r.SrcPort, r.DstMAC, r.SrcMAC
	b.SrcVM, b.DstVM, b.SrcVMID, b.DstVMID, b.SrcHost, b.DstHost = r.DstVM, r.SrcVM, r.DstVMID, r.SrcVMID, r.DstHost, r.SrcHost
	b.SrcTenant, b.DstTenant, b.Client, b.RTTUS = r.DstTenant, r.SrcTenant, flow.ClientDst, 0
	b.FlowID = r.FlowID*3 + 1
	return b
}

// tunnel is the row of the tunnel endpoint that saw the same packets.
func (w *world) tunnel(r *flow.Record) flow.Record {
	t := *r
	t.Marks, t.Role = 0, flow.RoleTunnel
	w.observedAt(&t, r.DstHost, "tunnel")
	t.Tunnel = flow.Tunnel{Src: r.Exporter, Dst: t.Exporter, SrcPort: uint16(49152 + w.rnd.IntN(16000)), DstPort: 4789, Proto: 17, Type: 1}
	t.StartNS, t.EndNS = r.StartNS+w.rnd.Int64N(2e6), r.EndNS+w.rnd.Int64N(2e6)
	return t
}
