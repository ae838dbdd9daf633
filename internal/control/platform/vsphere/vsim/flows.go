package vsim

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"time"
)

// flowKey is what a distributed switch tells flows apart by.
type flowKey struct {
	sw              string
	src, dst        [4]byte
	sport, dport    uint16
	proto, tos      uint8
	ingress, egress uint32 // ports
}

type flowCount struct {
	packets, octets uint64
	first, last     time.Time
	ttl, flags      uint8
}

// meterLocked counts a packet at the port that it leaves the switch through, as vSphere does.
func (x *extension) meterLocked(from, to *adapter, frame []byte) {
	g := to.port.group
	on := g.setting.IpfixEnabled
	if on == nil || on.Value == nil || !*on.Value || g.sw.ipfix == nil || len(frame) < 34 || binary.BigEndian.Uint16(frame[12:]) != 0x0800 {
		return
	}
	if g.sw.ipfix.InternalFlowsOnly && from.host != to.host {
		return
	}
	ip := frame[14:]
	k := flowKey{sw: g.sw.ref.Value, src: [4]byte(ip[12:16]), dst: [4]byte(ip[16:20]), proto: ip[9], tos: ip[1]}
	if from.port != nil {
		k.ingress = portNumber(from.port.key)
	}
	k.egress = portNumber(to.port.key)
	header := int(ip[0]&0xf) * 4
	flags := uint8(0)
	if l4 := ip[header:]; (k.proto == 6 || k.proto == 17) && len(l4) >= 8 {
		k.sport, k.dport = binary.BigEndian.Uint16(l4), binary.BigEndian.Uint16(l4[2:])
		if k.proto == 6 && len(l4) >= 14 {
			flags = l4[13]
		}
	}
	if x.plane.flows == nil {
		x.plane.flows = map[flowKey]*flowCount{}
	}
	c := x.plane.flows[k]
	if c == nil {
		c = &flowCount{first: time.Now()}
		x.plane.flows[k] = c
	}
	c.packets++
	c.octets += uint64(binary.BigEndian.Uint16(ip[2:]))
	c.last, c.ttl, c.flags = time.Now(), max(c.ttl, ip[8]), c.flags|flags
}

func portNumber(key string) uint32 {
	n, _ := strconv.ParseUint(key, 10, 32)
	return uint32(n)
}

// template is what a distributed switch sends for IPv4 with ports: element and length.
var template = [][2]uint16{
	{8, 4}, {12, 4}, {1, 8}, {2, 8}, {152, 8}, {153, 8}, {7, 2}, {11, 2}, {10, 4}, {14, 4}, {351, 8}, {4, 1}, {136, 1}, {6, 1}, {5, 1}, {53, 1}, {61, 1}, {210, 1},
}

// ExportFlows ends all flows and sends them to the collectors of their switches. It returns how many.
func (s *Server) ExportFlows() (int, error) {
	x := s.x
	x.mu.Lock()
	bySwitch := map[*dvSwitch][]byte{}
	n := 0
	byKey := func(a, b flowKey) int {
		return cmp.Or(slices.Compare(a.src[:], b.src[:]), slices.Compare(a.dst[:], b.dst[:]), cmp.Compare(a.sport, b.sport), cmp.Compare(a.egress, b.egress))
	}
	for _, k := range slices.SortedFunc(maps.Keys(x.plane.flows), byKey) {
		if sw := x.switches[k.sw]; sw != nil && sw.ipfix != nil {
			bySwitch[sw] = append(bySwitch[sw], k.record(x.plane.flows[k])...)
			n++
		}
	}
	x.plane.flows = nil
	sequence := x.plane.exported
	x.plane.exported += uint32(n)
	x.mu.Unlock()
	for sw, records := range bySwitch {
		to := net.JoinHostPort(sw.ipfix.CollectorIpAddress, strconv.Itoa(int(sw.ipfix.CollectorPort)))
		c, err := net.Dial("udp", to)
		if err != nil {
			return n, fmt.Errorf("vsim: ipfix: %w", err)
		}
		_, err = c.Write(message(sequence, uint32(sw.ipfix.ObservationDomainId), records))
		_ = c.Close()
		if err != nil {
			return n, fmt.Errorf("vsim: ipfix: %w", err)
		}
	}
	return n, nil
}

func (k flowKey) record(c *flowCount) []byte {
	be := binary.BigEndian
	b := append(append([]byte{}, k.src[:]...), k.dst[:]...)
	for _, n := range []uint64{c.octets, c.packets, uint64(c.first.UnixMilli()), uint64(c.last.UnixMilli())} {
		b = be.AppendUint64(b, n)
	}
	b = be.AppendUint16(be.AppendUint16(b, k.sport), k.dport)
	b = be.AppendUint32(be.AppendUint32(b, k.ingress), k.egress)
	b = be.AppendUint64(b, 0)
	const idle, egressDirection = 1, 1
	return append(b, k.proto, idle, c.flags, k.tos, c.ttl, egressDirection, 0)
}

// message writes one IPFIX message (RFC 7011, section 3) with the template and the records.
func message(sequence, domain uint32, records []byte) []byte {
	be := binary.BigEndian
	set := be.AppendUint16(be.AppendUint16(nil, 256), uint16(len(template)))
	for _, f := range template {
		set = be.AppendUint16(be.AppendUint16(set, f[0]), f[1])
	}
	body := be.AppendUint16(be.AppendUint16(nil, 2), uint16(4+len(set)))
	body = append(body, set...)
	body = be.AppendUint16(be.AppendUint16(body, 256), uint16(4+len(records)))
	body = append(body, records...)
	m := be.AppendUint16(be.AppendUint16(nil, 10), uint16(16+len(body)))
	m = be.AppendUint32(m, uint32(time.Now().Unix()))
	m = be.AppendUint32(be.AppendUint32(m, sequence), domain)
	return append(m, body...)
}
