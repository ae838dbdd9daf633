// Package vds makes the IPFIX stream of a VMware distributed switch, as captured from a real one:
// template 256 (IPv4 with ports) and template 260 (IPv4 inside VXLAN). It is the input of the
// decode benchmarks; the same seed gives the same bytes.
package vds

import (
	"encoding/binary"
	"io"
	"math"
	"math/rand/v2"
)

// Shape is which of the two templates the records have.
type Shape int

// The shapes and what a datagram of them carries.
const (
	Plain Shape = iota // template 256: 72 bytes, 18 records in a datagram
	VXLAN              // template 260: 84 bytes, 16 records in a datagram
)

// ParseShape reads "plain" or "vxlan".
func ParseShape(s string) (Shape, bool) {
	switch s {
	case "plain":
		return Plain, true
	case "vxlan":
		return VXLAN, true
	}
	return Plain, false
}

const pen = 6876

// field is one field specifier; enterprise fields have their identifier above 0x8000.
type field struct{ id, length uint16 }

var (
	plainFields = []field{
		{8, 4}, {12, 4}, {1, 8}, {2, 8}, {152, 8}, {153, 8}, {7, 2}, {11, 2}, {10, 4}, {14, 4}, {351, 8}, {4, 1}, {136, 1},
		{6, 1}, {5, 1}, {53, 1}, {61, 1}, {0x8000 | 890, 2}, {0x8000 | 888, 2}, {0x8000 | 889, 1}, {210, 1},
	}
	vxlanFields = []field{
		{8, 4}, {12, 4}, {1, 8}, {2, 8}, {152, 8}, {153, 8}, {7, 2}, {11, 2}, {10, 4}, {14, 4}, {4, 1}, {136, 1}, {6, 1}, {5, 1},
		{53, 1}, {61, 1}, {351, 8}, {0x8000 | 881, 4}, {0x8000 | 882, 4}, {0x8000 | 886, 2}, {0x8000 | 887, 2}, {0x8000 | 880, 1},
		{0x8000 | 890, 2}, {0x8000 | 888, 2}, {0x8000 | 889, 1},
	}
)

// server is a service that many VMs talk to.
type server struct {
	addr uint32
	port uint16
}

// Stream yields the messages of n records: first the templates, then data. The message is valid until yield returns.
func Stream(n int, shape Shape, yield func(msg []byte) bool) {
	g := newGenerator(shape)
	if !yield(g.templates()) {
		return
	}
	perMessage := 18
	if shape == VXLAN {
		perMessage = 16
	}
	for done := 0; done < n; {
		k := min(perMessage, n-done)
		if !yield(g.data(done, k)) {
			return
		}
		done += k
	}
}

const epoch = 1760000000 // of the first message

type generator struct {
	shape   Shape
	r       *rand.Rand
	vms     []uint32
	servers []server
	weights []float64 // cumulative, a Zipf distribution
	buf     []byte
}

func newGenerator(shape Shape) *generator {
	g := &generator{shape: shape, r: rand.New(rand.NewPCG(7, 7))}
	for range 2000 {
		g.vms = append(g.vms, 0x0a000001+g.r.Uint32N(20000))
	}
	ports := []uint16{80, 443, 3306, 5432, 6379, 9092, 53, 8080}
	sum := 0.0
	for i := range 300 {
		g.servers = append(g.servers, server{0x0a640000 + uint32(i), ports[g.r.IntN(len(ports))]})
		sum += 1 / float64(i+1)
		g.weights = append(g.weights, sum)
	}
	return g
}

func (g *generator) header(at uint32, sequence int) {
	g.buf = append(g.buf[:0], 0, 10, 0, 0)
	g.buf = binary.BigEndian.AppendUint32(g.buf, at)
	g.buf = binary.BigEndian.AppendUint32(g.buf, uint32(sequence))
	g.buf = binary.BigEndian.AppendUint32(g.buf, 1)
}

func (g *generator) finish(set int) []byte {
	binary.BigEndian.PutUint16(g.buf[set+2:], uint16(len(g.buf)-set))
	binary.BigEndian.PutUint16(g.buf[2:], uint16(len(g.buf)))
	return g.buf
}

func (g *generator) templates() []byte {
	g.header(epoch, 0)
	set := len(g.buf)
	g.buf = append(g.buf, 0, 2, 0, 0)
	g.template(256, plainFields)
	g.template(260, vxlanFields)
	return g.finish(set)
}

func (g *generator) template(id uint16, fields []field) {
	g.buf = binary.BigEndian.AppendUint16(g.buf, id)
	g.buf = binary.BigEndian.AppendUint16(g.buf, uint16(len(fields)))
	for _, f := range fields {
		g.buf = binary.BigEndian.AppendUint16(g.buf, f.id)
		g.buf = binary.BigEndian.AppendUint16(g.buf, f.length)
		if f.id&0x8000 != 0 {
			g.buf = binary.BigEndian.AppendUint32(g.buf, pen)
		}
	}
}

func (g *generator) data(done, k int) []byte {
	at := uint32(epoch + 1 + done/50000)
	g.header(at, done)
	set := len(g.buf)
	id := uint16(256)
	if g.shape == VXLAN {
		id = 260
	}
	g.buf = binary.BigEndian.AppendUint16(g.buf, id)
	g.buf = binary.BigEndian.AppendUint16(g.buf, 0)
	for range k {
		g.record(at)
	}
	return g.finish(set)
}

// conversation is one record's content.
type conversation struct {
	src, dst         uint32
	srcPort, dstPort uint16
	proto, flags     byte
	octets, packets  uint64
	startMS, endMS   uint64
	server, client   int
}

func (g *generator) pick(at uint32) conversation {
	want := g.r.Float64() * g.weights[len(g.weights)-1]
	s := 0
	for g.weights[s] < want {
		s++
	}
	f := g.r.Float64()
	client := int(f * f * float64(len(g.vms)))
	c := conversation{
		src: g.vms[client], dst: g.servers[s].addr, srcPort: uint16(32768 + g.r.IntN(61000-32768)), dstPort: g.servers[s].port,
		proto: 6, flags: 0x1b, server: s, client: client,
	}
	if c.dstPort == 53 {
		c.proto, c.flags = 17, 0
	}
	if g.r.IntN(2) == 0 {
		c.src, c.dst, c.srcPort, c.dstPort = c.dst, c.src, c.dstPort, c.srcPort
	}
	c.packets = uint64(min(math.Pow(1-g.r.Float64(), -1/0.9), 100000))
	c.octets = c.packets * uint64(60+g.r.IntN(1340))
	c.startMS = uint64(at-60)*1000 + g.r.Uint64N(50000)
	c.endMS = c.startMS + g.r.Uint64N(10000)
	return c
}

func (g *generator) record(at uint32) {
	c := g.pick(at)
	src, dst, sp, dp, octets, proto := c.src, c.dst, c.srcPort, c.dstPort, c.octets, c.proto
	if g.shape == VXLAN { // the outer header: 64 VTEPs
		src, dst = 0xc0a80a01+uint32(c.client%64), 0xc0a80a01+uint32(c.server%64)
		sp, dp, octets, proto = uint16(49152+g.r.IntN(16383)), 4789, octets+50*c.packets, 17
	}
	b := binary.BigEndian.AppendUint32(g.buf, src)
	b = binary.BigEndian.AppendUint32(b, dst)
	b = binary.BigEndian.AppendUint64(b, octets)
	b = binary.BigEndian.AppendUint64(b, c.packets)
	b = binary.BigEndian.AppendUint64(b, c.startMS)
	b = binary.BigEndian.AppendUint64(b, c.endMS)
	b = binary.BigEndian.AppendUint16(b, sp)
	b = binary.BigEndian.AppendUint16(b, dp)
	if g.shape == Plain {
		b = binary.BigEndian.AppendUint32(b, 2+g.r.Uint32N(2))
		b = binary.BigEndian.AppendUint32(b, 10+g.r.Uint32N(50))
		b = binary.BigEndian.AppendUint64(b, 0)
		g.buf = append(b, proto, 1, c.flags, 0, 64, 1, 0, 1, 0, 2, 0, 0)
		return
	}
	b = binary.BigEndian.AppendUint32(b, 3)
	b = binary.BigEndian.AppendUint32(b, 1)
	b = append(b, proto, 1, 0, 0, 64, 1)
	b = binary.BigEndian.AppendUint64(b, 1<<56|uint64(5000+c.server%40))
	b = binary.BigEndian.AppendUint32(b, c.src)
	b = binary.BigEndian.AppendUint32(b, c.dst)
	b = binary.BigEndian.AppendUint16(b, c.srcPort)
	b = binary.BigEndian.AppendUint16(b, c.dstPort)
	g.buf = append(b, c.proto, 0, 3, 0, 1, 1)
}

// WritePcap writes the stream as a capture of UDP datagrams to port 4739.
func WritePcap(w io.Writer, n int, shape Shape) error {
	head := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	head = append(head, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0)
	_, err := w.Write(head)
	var frame []byte
	Stream(n, shape, func(msg []byte) bool {
		if err == nil {
			frame = appendFrame(frame[:0], msg)
			_, err = w.Write(frame)
		}
		return err == nil
	})
	return err
}

// appendFrame appends a record of a capture file: Ethernet, IPv4 and UDP around a message.
func appendFrame(b, msg []byte) []byte {
	n := uint32(14 + 20 + 8 + len(msg))
	at := binary.BigEndian.Uint32(msg[4:])
	for _, v := range []uint32{at, 0, n, n} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	b = append(b, 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0)
	ip := len(b)
	b = append(b, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(20+8+len(msg)))
	b = append(b, 0, 0, 0, 0, 64, 17, 0, 0, 10, 254, 0, 1, 10, 254, 0, 2)
	binary.BigEndian.PutUint16(b[ip+10:], checksum(b[ip:]))
	b = binary.BigEndian.AppendUint16(b, 40000)
	b = binary.BigEndian.AppendUint16(b, 4739)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(msg)))
	b = append(b, 0, 0)
	return append(b, msg...)
}

func checksum(h []byte) uint16 {
	var sum uint32
	for i := 0; i < len(h); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
