package wire

import "encoding/binary"

// GeneveLen is the length of a Geneve header without options.
const GeneveLen = 8

// Geneve is a Geneve header in place (RFC 8926, section 3.4): version (2 bits), length of the options in 4-byte
// units (6), control (1), critical options (1), reserved (6), protocol (16), VNI (24), reserved (8), options. Call Valid before
// the rest.
type Geneve []byte

// Valid reports whether the fixed part is there with version 0. The options may be cut.
func (h Geneve) Valid() bool { return len(h) >= GeneveLen && h[0]>>6 == 0 }

// Len returns the length of the header with options.
func (h Geneve) Len() int { return GeneveLen + int(h[0]&0x3f)*4 }

// Control reports whether the packet is for the tunnel endpoint and not a tenant's.
func (h Geneve) Control() bool { return h[1]&0x80 != 0 }

// Critical reports whether an option must be understood.
func (h Geneve) Critical() bool { return h[1]&0x40 != 0 }

// Protocol returns the EtherType of what follows.
func (h Geneve) Protocol() uint16 { return binary.BigEndian.Uint16(h[2:]) }

// VNI returns the virtual network identifier.
func (h Geneve) VNI() uint32 { return binary.BigEndian.Uint32(h[4:]) >> 8 }

// SetVNI writes the virtual network identifier and leaves the reserved byte.
func (h Geneve) SetVNI(vni uint32) {
	binary.BigEndian.PutUint32(h[4:], vni<<8|uint32(h[7]))
}

// Options returns the options that are there, for NextGeneveOption.
func (h Geneve) Options() []byte { return h[GeneveLen:max(GeneveLen, min(h.Len(), len(h)))] }

// GeneveOption is one option in place (RFC 8926, section 3.5): class (16 bits), type (8, highest bit: critical),
// reserved (3), length of the data in 4-byte units (5), data.
type GeneveOption []byte

// NextGeneveOption splits the first option off; nil when there is none or it is cut.
func NextGeneveOption(b []byte) (o GeneveOption, rest []byte) {
	if len(b) < 4 {
		return nil, nil
	}
	n := 4 + int(b[3]&0x1f)*4
	if n > len(b) {
		return nil, nil
	}
	return b[:n:n], b[n:]
}

// Class returns the namespace of the type.
func (o GeneveOption) Class() uint16 { return binary.BigEndian.Uint16(o) }

// Type returns the type with its critical bit.
func (o GeneveOption) Type() uint8 { return o[2] }

// Critical reports whether a receiver that does not know the option must drop the packet.
func (o GeneveOption) Critical() bool { return o[2]&0x80 != 0 }

// Data returns the option's data.
func (o GeneveOption) Data() []byte { return o[4:] }
