package wire

import "encoding/binary"

// ARPLen is the length of an ARP packet without its addresses.
const ARPLen = 8

// ARP is an ARP packet in place (RFC 826): hardware space (16 bits), protocol space (16), lengths
// of both kinds of address (8, 8), operation (16), then sender hardware, sender protocol,
// target hardware and target protocol address. Call Valid before the rest.
type ARP []byte

// Valid reports whether the packet is there with all its addresses.
func (h ARP) Valid() bool { return len(h) >= ARPLen && len(h) >= h.Len() }

// Len returns the length with the addresses; the first 6 bytes must be there.
func (h ARP) Len() int { return ARPLen + 2*int(h[4]) + 2*int(h[5]) }

// Hardware returns the hardware address space; 1 is Ethernet.
func (h ARP) Hardware() uint16 { return binary.BigEndian.Uint16(h) }

// Protocol returns the EtherType of the protocol addresses.
func (h ARP) Protocol() uint16 { return binary.BigEndian.Uint16(h[2:]) }

// Op returns the operation: 1 request, 2 reply.
func (h ARP) Op() uint16 { return binary.BigEndian.Uint16(h[6:]) }

// SenderHW returns the sender's hardware address.
func (h ARP) SenderHW() []byte { return h[ARPLen:][:h[4]] }

// Sender returns the sender's protocol address.
func (h ARP) Sender() []byte { return h[ARPLen+int(h[4]):][:h[5]] }

// TargetHW returns the target's hardware address.
func (h ARP) TargetHW() []byte { return h[ARPLen+int(h[4])+int(h[5]):][:h[4]] }

// Target returns the target's protocol address.
func (h ARP) Target() []byte { return h[ARPLen+2*int(h[4])+int(h[5]):][:h[5]] }
