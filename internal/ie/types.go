package ie

// Type is an abstract data type, RFC 7012, section 3.1, and RFC 6313 for the lists.
type Type uint8

// The abstract data types.
const (
	OctetArray Type = iota
	Unsigned8
	Unsigned16
	Unsigned32
	Unsigned64
	Signed8
	Signed16
	Signed32
	Signed64
	Float32
	Float64
	Boolean
	MACAddress
	String
	DateTimeSeconds
	DateTimeMilliseconds
	DateTimeMicroseconds
	DateTimeNanoseconds
	IPv4Address
	IPv6Address
	BasicList
	SubTemplateList
	SubTemplateMultiList
	Unsigned256
)

var types = [...]struct {
	name   string
	length int
}{
	OctetArray: {"octetArray", Variable}, Unsigned8: {"unsigned8", 1}, Unsigned16: {"unsigned16", 2},
	Unsigned32: {"unsigned32", 4}, Unsigned64: {"unsigned64", 8}, Signed8: {"signed8", 1},
	Signed16: {"signed16", 2}, Signed32: {"signed32", 4}, Signed64: {"signed64", 8}, Float32: {"float32", 4},
	Float64: {"float64", 8}, Boolean: {"boolean", 1}, MACAddress: {"macAddress", 6}, String: {"string", Variable},
	DateTimeSeconds: {"dateTimeSeconds", 4}, DateTimeMilliseconds: {"dateTimeMilliseconds", 8},
	DateTimeMicroseconds: {"dateTimeMicroseconds", 8}, DateTimeNanoseconds: {"dateTimeNanoseconds", 8},
	IPv4Address: {"ipv4Address", 4}, IPv6Address: {"ipv6Address", 16}, BasicList: {"basicList", Variable},
	SubTemplateList:      {"subTemplateList", Variable},
	SubTemplateMultiList: {"subTemplateMultiList", Variable},
	Unsigned256:          {"unsigned256", 32},
}

// String returns the name as in the IANA registry.
func (t Type) String() string {
	if int(t) < len(types) {
		return types[t].name
	}
	return types[OctetArray].name
}

// Len returns the bytes that a value takes on the wire when nothing is reduced, Variable where there is no
// such number.
func (t Type) Len() int {
	if int(t) < len(types) {
		return types[t].length
	}
	return Variable
}

// Unsigned reports whether values are unsigned integers of at most 64 bits.
func (t Type) Unsigned() bool { return t >= Unsigned8 && t <= Unsigned64 }

// Signed reports whether values are signed integers.
func (t Type) Signed() bool { return t >= Signed8 && t <= Signed64 }

// Fits reports whether a field of length n can carry the type. Integers and float64 may be sent
// shorter (reduced-size encoding, RFC 7011, section 6.2); a length of zero fits nothing but
// strings, octet arrays and lists.
func (t Type) Fits(n int) bool {
	full := t.Len()
	switch {
	case full == Variable:
		return true
	case t.Unsigned(), t.Signed(), t == Unsigned256:
		return n >= 1 && n <= full
	case t == Float64:
		return n == 8 || n == 4
	}
	return n == full
}

// Semantics says how a value may be used, RFC 7012, section 3.2.
type Semantics uint8

// The data type semantics.
const (
	Default Semantics = iota
	Quantity
	TotalCounter
	DeltaCounter
	Identifier
	Flags
	List
	SNMPCounter
	SNMPGauge
)

var semantics = [...]string{
	"default", "quantity", "totalCounter", "deltaCounter", "identifier", "flags", "list", "snmpCounter", "snmpGauge",
}

// String returns the name as in the IANA registry.
func (s Semantics) String() string {
	if int(s) < len(semantics) {
		return semantics[s]
	}
	return semantics[Default]
}

// Unit is what a number counts, from the registry of units of RFC 7012.
type Unit uint8

// The units.
const (
	NoUnit Unit = iota
	Bits
	Octets
	Packets
	Flows
	Seconds
	Milliseconds
	Microseconds
	Nanoseconds
	FourOctetWords
	Messages
	Hops
	Entries
	Frames
	Ports
	Inferred
)

var units = [...]string{
	"", "bits", "octets", "packets", "flows", "seconds", "milliseconds", "microseconds", "nanoseconds",
	"4-octet words", "messages", "hops", "entries", "frames", "ports", "inferred",
}

// String returns the name as in the IANA registry, "" for no unit.
func (u Unit) String() string {
	if int(u) < len(units) {
		return units[u]
	}
	return ""
}

// Short names for the tables.
const (
	oct, str                      = OctetArray, String
	u8, u16, u32, u64             = Unsigned8, Unsigned16, Unsigned32, Unsigned64
	s32, f64, yes, u256           = Signed32, Float64, Boolean, Unsigned256
	s8, s16, s64, f32             = Signed8, Signed16, Signed64, Float32
	mac, ip4, ip6                 = MACAddress, IPv4Address, IPv6Address
	secs, millis, micros, nanos   = DateTimeSeconds, DateTimeMilliseconds, DateTimeMicroseconds, DateTimeNanoseconds
	bl, stl, stml                 = BasicList, SubTemplateList, SubTemplateMultiList
	any_, qty, tot, dlt, idn, flg = Default, Quantity, TotalCounter, DeltaCounter, Identifier, Flags
	lst, scn, sga                 = List, SNMPCounter, SNMPGauge
	none, bit, oc, pk, fl, sec    = NoUnit, Bits, Octets, Packets, Flows, Seconds
	ms, us, ns, words, msgs, hop  = Milliseconds, Microseconds, Nanoseconds, FourOctetWords, Messages, Hops
	ent, frm, prt, inf            = Entries, Frames, Ports, Inferred
)
