// Package choose decides which flow records a receiver gets: by a packet filter, and by a sample of the flows. Both wings send records
// away, and both choose with it.
package choose

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"

	"github.com/zeebo/xxh3"

	"crosstap/internal/filter"
	"crosstap/internal/flow"
	"crosstap/internal/frame"
)

// Filter decides on records with the language of the packet filter: it builds the headers of the frames that a record
// stands for, the tunnel's too where it is known, and gives them to the filter.
type Filter struct {
	match *filter.Filter
	buf   []byte
}

// NewFilter returns nil for an empty expression.
func NewFilter(expr string) (*Filter, error) {
	if expr == "" {
		return nil, nil
	}
	f, err := filter.Compile(expr, frame.LinkEthernet, filter.Options{})
	if err != nil {
		var e *filter.Error
		if errors.As(err, &e) {
			return nil, e
		}
		return nil, err
	}
	return &Filter{match: f, buf: make([]byte, 0, 256)}, nil
}

// Passes reports whether the target wants a record.
func (f *Filter) Passes(r *flow.Record) bool {
	if f == nil {
		return true
	}
	f.buf = AppendFrame(f.buf[:0], r)
	return f.match.Match(f.buf, len(f.buf))
}

// Protocol numbers in the headers built here.
const (
	etherIPv4, etherIPv6, etherVLAN, etherTransparent = 0x0800, 0x86dd, 0x8100, 0x6558
	protoICMP, protoTCP, protoUDP, protoGRE           = 1, 6, 17, 47
	protoICMPv6, protoSCTP                            = 58, 132
)

// AppendFrame appends a frame that a record stands for: every header it knows, no payload.
func AppendFrame(b []byte, r *flow.Record) []byte {
	if t := &r.Tunnel; t.Type == 0 || t.Src.IsZero() && t.Dst.IsZero() {
		return appendTenant(b, r)
	}
	kind := uint16(etherIPv6)
	if is4(r.Tunnel.Src, r.Tunnel.Dst) {
		kind = etherIPv4
	}
	b = binary.BigEndian.AppendUint16(append(b, make([]byte, 12)...), kind)
	b, ip := appendIP(b, r.Tunnel.Src, r.Tunnel.Dst, r.Tunnel.Proto, 0)
	at := len(b)
	b = appendTunnel(b, r)
	b = appendTenant(b, r)
	if r.Tunnel.Proto == protoUDP {
		binary.BigEndian.PutUint16(b[at+4:], uint16(len(b)-at))
	}
	endIP(b, ip)
	return b
}

// appendTunnel appends the headers between the outer IP header and the tenant's frame.
func appendTunnel(b []byte, r *flow.Record) []byte {
	n := r.Segment.Number()
	if r.Tunnel.Proto == protoGRE {
		b = binary.BigEndian.AppendUint16(append(b, 0x20, 0), etherTransparent) // with a key
		if r.Segment.Kind() == flow.KindNVGRE {
			n <<= 8
		}
		return binary.BigEndian.AppendUint32(b, n)
	}
	b = binary.BigEndian.AppendUint16(b, r.Tunnel.SrcPort)
	b = binary.BigEndian.AppendUint16(b, r.Tunnel.DstPort)
	b = append(b, 0, 0, 0, 0)
	if r.Tunnel.Type == 7 { // Geneve
		b = binary.BigEndian.AppendUint16(append(b, 0, 0), etherTransparent)
	} else {
		b = append(b, 8, 0, 0, 0) // VXLAN
	}
	return binary.BigEndian.AppendUint32(b, n<<8)
}

// appendTenant appends the tenant's frame.
func appendTenant(b []byte, r *flow.Record) []byte {
	at := len(b)
	b = append(b, make([]byte, 12)...)
	r.DstMAC.Put(b[at:])
	r.SrcMAC.Put(b[at+6:])
	for _, id := range [...]uint16{r.VLAN, r.InnerVLAN} {
		if id != 0 {
			b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, etherVLAN), id)
		}
	}
	if r.Src.IsZero() && r.Dst.IsZero() {
		return binary.BigEndian.AppendUint16(b, r.EtherType)
	}
	kind := uint16(etherIPv6)
	if is4(r.Src, r.Dst) {
		kind = etherIPv4
	}
	b, ip := appendIP(binary.BigEndian.AppendUint16(b, kind), r.Src, r.Dst, r.Proto, r.ToS)
	b = appendTransport(b, r)
	endIP(b, ip)
	return b
}

func is4(a, b flow.Addr) bool { return a.Is4() || a.IsZero() && b.Is4() }

// appendIP appends an IP header, and returns where it begins.
func appendIP(b []byte, src, dst flow.Addr, proto, tos uint8) ([]byte, int) {
	at := len(b)
	if is4(src, dst) {
		b = append(b, 0x45, tos, 0, 0, 0, 0, 0, 0, 64, proto, 0, 0)
		return append(append(b, src[12:]...), dst[12:]...), at
	}
	b = append(b, 0x60|tos>>4, tos<<4, 0, 0, 0, 0, proto, 64)
	return append(append(b, src[:]...), dst[:]...), at
}

// endIP writes the length of the packet that begins at ip and ends with b.
func endIP(b []byte, ip int) {
	if b[ip]>>4 == 4 {
		binary.BigEndian.PutUint16(b[ip+2:], uint16(len(b)-ip))
		return
	}
	binary.BigEndian.PutUint16(b[ip+4:], uint16(len(b)-ip-40))
}

// appendTransport appends the header above IP.
func appendTransport(b []byte, r *flow.Record) []byte {
	switch r.Proto {
	case protoICMP, protoICMPv6:
		return append(binary.BigEndian.AppendUint16(b, r.ICMPTypeCode), 0, 0, 0, 0, 0, 0)
	case protoTCP, protoUDP, protoSCTP:
	default:
		return b
	}
	at := len(b)
	b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, r.SrcPort), r.DstPort)
	if r.Proto != protoTCP {
		return binary.BigEndian.AppendUint32(b, 8<<16)
	}
	b = append(b, make([]byte, 16)...)
	b[at+12], b[at+13] = 5<<4|byte(r.TCPFlags>>8)&0xf, byte(r.TCPFlags)
	return b
}

// Sampler chooses one flow in so many, all its records and both directions of it alike.
type Sampler struct {
	rate uint32
	seed uint64
	buf  [56]byte
}

func NewSampler(rate uint32) *Sampler {
	if rate <= 1 {
		return nil
	}
	return &Sampler{rate: rate, seed: rand.Uint64()}
}

// Takes reports whether the flow of a record was chosen.
func (s *Sampler) Takes(r *flow.Record) bool {
	if s == nil {
		return true
	}
	a, b, p, q := &r.Src, &r.Dst, r.SrcPort, r.DstPort
	if string(a[:]) > string(b[:]) || *a == *b && p > q {
		a, b, p, q = b, a, q, p
	}
	k := s.buf[:0]
	k = append(append(k, a[:]...), b[:]...)
	k = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(append(k, r.Proto), p), q)
	k = binary.BigEndian.AppendUint64(k, uint64(r.Segment))
	if r.Src.IsZero() && r.Dst.IsZero() { // no IP: by the MAC addresses, in no order
		k = binary.BigEndian.AppendUint64(k, uint64(r.SrcMAC^r.DstMAC))
	}
	return xxh3.HashSeed(k, s.seed)%uint64(s.rate) == 0
}

// Mark returns the record as it is told: it stands for the rate times as much.
func (s *Sampler) Mark(r flow.Record) flow.Record {
	r.Sampling = uint32(min(uint64(max(r.Sampling, 1))*uint64(s.rate), 1<<32-1))
	r.Marks |= flow.MarkSampled
	return r
}
