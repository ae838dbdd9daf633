package groom

// Field is a set of header fields that may differ between duplicates.
type Field uint16

// The fields.
const (
	FieldTTL      Field = 1 << iota // time to live, hop limit
	FieldChecksum                   // of IPv4 and of the transport header
	FieldVLAN                       // 802.1Q/ad tags
	FieldMAC                        // Ethernet addresses
	FieldToS                        // type of service, traffic class
	FieldID                         // identification of IPv4
	FieldSeq                        // TCP sequence number

	// DefaultIgnore is what differs between copies of one packet in places with routers and switches between them.
	DefaultIgnore = FieldTTL | FieldChecksum | FieldVLAN | FieldMAC
)

// fieldNames are the words for fields, in the order of the constants.
var fieldNames = []string{"ttl", "checksum", "vlan", "mac", "tos", "id", "seq"}
