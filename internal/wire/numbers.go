package wire

// EtherTypes, as IEEE assigns them.
const (
	TypeIPv4      = 0x0800
	TypeARP       = 0x0806
	TypeTEB       = 0x6558 // transparent Ethernet bridging: an Ethernet frame follows
	TypeRARP      = 0x8035
	TypeVLAN      = 0x8100 // IEEE 802.1Q C-TAG
	TypeIPv6      = 0x86dd
	TypePPP       = 0x880b
	TypeMPLS      = 0x8847 // downstream-assigned label
	TypeMPLSMulti = 0x8848 // upstream-assigned label (RFC 5332)
	TypePPPoEDisc = 0x8863
	TypePPPoE     = 0x8864 // PPPoE session stage
	TypeSVLAN     = 0x88a8 // IEEE 802.1ad S-TAG
	TypePBB       = 0x88e7 // IEEE 802.1ah I-TAG
	TypeVNTag     = 0x8926
	TypeETag      = 0x893f // IEEE 802.1BR
	TypeNSH       = 0x894f
	TypeQinQ      = 0x9100 // S-TAG before 802.1ad
	TypeQinQ2     = 0x9200 // the same, another vendor
	TypeERSPAN    = 0x88be // in GRE only: ERSPAN types I and II
	TypeERSPAN3   = 0x22eb // in GRE only: ERSPAN type III
)

// MinType is the lowest EtherType; below stands a length (IEEE 802.3, clause 3.2.6).
const MinType = 0x0600

// MaxLength is the greatest length an IEEE 802.3 length field holds.
const MaxLength = 1500

// IP protocol numbers, as IANA assigns them.
const (
	ProtoHopByHop = 0
	ProtoICMP     = 1
	ProtoIGMP     = 2
	ProtoIPv4     = 4
	ProtoTCP      = 6
	ProtoUDP      = 17
	ProtoDCCP     = 33
	ProtoIPv6     = 41
	ProtoRouting  = 43
	ProtoFragment = 44
	ProtoGRE      = 47
	ProtoESP      = 50
	ProtoAH       = 51
	ProtoICMPv6   = 58
	ProtoNoNext   = 59
	ProtoDestOpts = 60
	ProtoEtherIP  = 97
	ProtoSCTP     = 132
	ProtoMobility = 135
	ProtoUDPLite  = 136
	ProtoMPLS     = 137
	ProtoHIP      = 139
	ProtoShim6    = 140
	ProtoEthernet = 143
)
