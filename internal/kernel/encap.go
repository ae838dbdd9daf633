package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"crosstap/internal/wire"
)

// Outer is what copies to a tool are wrapped in.
type Outer struct {
	Source, Tool netip.Addr
	Protocol     uint8  // 17 for what goes over UDP, 47 for GRE
	Port         uint16 // of the tool, over UDP
	TTL, DSCP    int
	DontFragment bool
	Head         []byte // behind the UDP header, or behind the IP header; at most 28 bytes, an even number
	Seq          int    // offset of a sequence number in Head, -1 for none
	ERSPAN       int    // offset of an ERSPAN header in Head, -1 for none
	Stamp        Stamp  // of ERSPAN type III; NoStamp for type II
	Index        uint32 // of ERSPAN type II; 0 for the number of the copy point
	// Device is the interface to send through, in the network namespace of the tapped ones; "" to follow the routes.
	Device string
	// Fits is the most bytes of a frame for which one packet of the path is enough. Longer copies are cut to it with Slice, and dropped
	// without.
	Fits  int
	Slice bool
	// Keep cuts copies to so many bytes; 0 for none.
	Keep int
	Rate uint64 // most bits each second, with their headers; 0 for no bound
}

// Stamp is the unit of an ERSPAN type III header's time stamp.
type Stamp uint8

// The units, in the order in which the header numbers them. With StampPTP the head has a sub-header of platform 5 behind.
const (
	NoStamp Stamp = iota
	Stamp100Micros
	Stamp100Nanos
	StampPTP
)

// Limits of Outer.
const (
	maxHead = 28
	minKeep = 64 // what a checksum that hardware fills in may need
	maxFits = 65535 - 100
	minRate = 1000
)

func (o *Outer) validate() error {
	switch {
	case !o.Source.IsValid() || !o.Tool.IsValid() || o.Source.Is4() != o.Tool.Is4():
		return fmt.Errorf("kernel: source %s and tool %s: want two addresses of one family", o.Source, o.Tool)
	case o.Protocol != wire.ProtoUDP && o.Protocol != wire.ProtoGRE:
		return fmt.Errorf("kernel: IP protocol %d: want 17 or 47", o.Protocol)
	case o.Protocol == wire.ProtoUDP && o.Tool.Is6() && len(o.Head) == 0:
		return errors.New("kernel: bare UDP over IPv6 needs a checksum, which is not made in the kernel")
	case len(o.Head) > maxHead || len(o.Head)%2 != 0:
		return fmt.Errorf("kernel: a header of %d bytes: want an even number, at most %d", len(o.Head), maxHead)
	case o.Rate != 0 && o.Rate < minRate:
		return fmt.Errorf("kernel: %d bits a second: want at least %d", o.Rate, minRate)
	case o.Keep != 0 && o.Keep < minKeep:
		return fmt.Errorf("kernel: cut to %d bytes: want at least %d", o.Keep, minKeep)
	case o.Fits < minKeep || o.Fits > maxFits:
		return fmt.Errorf("kernel: frames of %d bytes fit the path: want %d to %d", o.Fits, minKeep, maxFits)
	}
	return nil
}

// netLen returns the length of the outer IP header.
func (o *Outer) netLen() int {
	if o.Tool.Is6() {
		return wire.IPv6Len
	}
	return wire.IPv4Len
}

// transport returns the offset of what follows the outer IP header.
func (o *Outer) transport() int { return wire.EthernetLen + o.netLen() }

// head returns the offset of Head.
func (o *Outer) head() int {
	if o.Protocol == wire.ProtoUDP {
		return o.transport() + wire.UDPLen
	}
	return o.transport()
}

// length returns the length of all headers in front of the frame.
func (o *Outer) length() int { return o.head() + len(o.Head) }

// template returns the headers as they are in all packets: the IPv4 checksum and the lengths are for a packet of nothing but
// the headers, the addresses of Ethernet are missing.
func (o *Outer) template() []byte {
	be := binary.BigEndian
	b := make([]byte, o.length())
	ip, ttl := b[wire.EthernetLen:], o.TTL
	if ttl == 0 {
		ttl = 64
	}
	if o.Tool.Is4() {
		be.PutUint16(b[12:], wire.TypeIPv4)
		ip[0], ip[1], ip[8], ip[9] = plainIPv4, byte(o.DSCP<<2), byte(ttl), o.Protocol
		be.PutUint16(ip[2:], uint16(len(ip)))
		if o.DontFragment {
			ip[6] = 0x40
		}
		src, dst := o.Source.As4(), o.Tool.As4()
		copy(ip[12:], src[:])
		copy(ip[16:], dst[:])
	} else {
		be.PutUint16(b[12:], wire.TypeIPv6)
		be.PutUint16(ip, uint16(0x6000|o.DSCP<<6))
		be.PutUint16(ip[4:], uint16(len(ip)-wire.IPv6Len))
		ip[6], ip[7] = o.Protocol, byte(ttl)
		src, dst := o.Source.As16(), o.Tool.As16()
		copy(ip[8:], src[:])
		copy(ip[24:], dst[:])
	}
	if o.Protocol == wire.ProtoUDP {
		udp := b[o.transport():]
		be.PutUint16(udp[2:], o.Port)
		be.PutUint16(udp[4:], uint16(len(udp)))
	}
	copy(b[o.head():], o.Head)
	return b
}

// partialSum is the sum over the words of the template's IPv4 header without its length, for the checksum (RFC 1071) of packets of any length.
func partialSum(ip []byte) (sum uint32) {
	for i := 0; i < wire.IPv4Len; i += 2 {
		if i != 2 {
			sum += uint32(binary.BigEndian.Uint16(ip[i:]))
		}
	}
	return sum
}
