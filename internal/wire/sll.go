package wire

import "encoding/binary"

// Lengths of link headers that captures have in place of Ethernet's.
const (
	SLLLen  = 16
	SLL2Len = 20
	NullLen = 4
)

// SLL8022 is the protocol number of cooked frames that begin with LLC.
const SLL8022 = 4

// Hardware types (Linux ARPHRD) under which the protocol field of a cooked header is no EtherType.
const (
	ARPHRDFrameRelay = 770
	ARPHRDRadio      = 801 // 801 to 804: IEEE 802.11 with different headers
	ARPHRDRadioLast  = 804
	ARPHRDNetlink    = 824
)

// SLL is a Linux cooked header, version 1, in place: packet type (16 bits), hardware type (16), length of the address (16),
// address (64), protocol (16). Call Valid before the rest.
type SLL []byte

// Valid reports whether the whole header is there.
func (h SLL) Valid() bool { return len(h) >= SLLLen }

// PacketType returns 0 to us, 1 broadcast, 2 multicast, 3 to another host, 4 sent by us.
func (h SLL) PacketType() uint8 { return h[1] }

// Hardware returns the hardware type.
func (h SLL) Hardware() uint16 { return binary.BigEndian.Uint16(h[2:]) }

// Addr returns the sender's link address, 8 bytes at most.
func (h SLL) Addr() []byte { return h[6 : 6+min(binary.BigEndian.Uint16(h[4:]), 8)] }

// Protocol returns the EtherType, or below MinType a Linux number such as 4 for LLC.
func (h SLL) Protocol() uint16 { return binary.BigEndian.Uint16(h[14:]) }

// SLL2 is a Linux cooked header, version 2, in place: protocol (16 bits), reserved (16), interface index (32), hardware
// type (16), packet type (8), length of the address (8), address (64). Call Valid before the rest.
type SLL2 []byte

// Valid reports whether the whole header is there.
func (h SLL2) Valid() bool { return len(h) >= SLL2Len }

// Protocol returns the EtherType, or below MinType a Linux number such as 4 for LLC.
func (h SLL2) Protocol() uint16 { return binary.BigEndian.Uint16(h) }

// Interface returns the index of the interface.
func (h SLL2) Interface() uint32 { return binary.BigEndian.Uint32(h[4:]) }

// Hardware returns the hardware type.
func (h SLL2) Hardware() uint16 { return binary.BigEndian.Uint16(h[8:]) }

// PacketType returns 0 to us, 1 broadcast, 2 multicast, 3 to another host, 4 sent by us.
func (h SLL2) PacketType() uint8 { return h[10] }

// Addr returns the sender's link address, 8 bytes at most.
func (h SLL2) Addr() []byte { return h[12 : 12+min(h[11], 8)] }

// Null is the header of BSD's loopback in place: address family (32 bits), in the byte order of the capturing
// machine, or big endian where OpenBSD captured. Call Valid before the rest.
type Null []byte

// Valid reports whether the whole header is there.
func (h Null) Valid() bool { return len(h) >= NullLen }

// Family returns the address family; the byte order is the one in which it is small.
func (h Null) Family() uint32 {
	if v := binary.LittleEndian.Uint32(h); v <= 0xffff {
		return v
	}
	return binary.BigEndian.Uint32(h)
}
