package ipfix

import "fmt"

// Reason says why bytes could not be decoded. The list is fixed, so that it can label a counter.
type Reason uint8

// The reasons.
const (
	BadVersion    Reason = iota // the version word is not 10
	BadLength                   // the message header's length is less than the header
	ShortMessage                // the message says it is longer than the bytes there are
	BadSet                      // a set's length is impossible; the rest of the message is lost
	UnknownSet                  // a set identifier that RFC 7011 reserves
	BadTemplate                 // a template record that cannot describe a record
	BadRecord                   // a variable-length field reaches beyond its set
	TemplateLimit               // an old template was forgotten to make room
	PendingLimit                // a set was thrown away before its template came
	DomainLimit                 // more observation domains than are accounted for
	NumReasons    int    = iota // how many reasons there are
)

var reasons = [NumReasons]string{
	"bad-version", "bad-length", "short-message", "bad-set", "unknown-set", "bad-template", "bad-record",
	"template-limit", "pending-limit", "domain-limit",
}

// String returns the reason as a label.
func (r Reason) String() string {
	if int(r) < len(reasons) {
		return reasons[r]
	}
	return "other"
}

// Reasons returns the labels of all reasons, in their order.
func Reasons() []string { return reasons[:] }

// Error is the first thing that was wrong with a message. What was decoded before it stands.
type Error struct {
	Reason Reason
	Set    uint16 // identifier of the set, 0 when the message itself is wrong
	Offset int    // bytes from the message's start
	Need   int    // bytes needed, or the least value allowed
	Have   int    // bytes there, or the value found
}

// Error says where, what and why.
func (e *Error) Error() string {
	switch e.Reason {
	case BadVersion:
		return fmt.Sprintf("ipfix: message: version is %d, want %d", e.Have, Version)
	case BadLength:
		return fmt.Sprintf("ipfix: message: length is %d, the header alone has %d", e.Have, HeaderLen)
	case ShortMessage:
		return fmt.Sprintf("ipfix: message: needs %d bytes, %d there", e.Need, e.Have)
	case UnknownSet:
		return fmt.Sprintf("ipfix: set at offset %d: identifier %d is reserved", e.Offset, e.Set)
	case BadTemplate:
		return fmt.Sprintf("ipfix: template %d at offset %d: needs %d bytes, %d left", e.Set, e.Offset, e.Need, e.Have)
	case BadRecord:
		return fmt.Sprintf("ipfix: set %d at offset %d: record needs %d bytes, %d left", e.Set, e.Offset, e.Need, e.Have)
	case BadSet:
		return fmt.Sprintf("ipfix: set %d at offset %d: length is %d, %d bytes left", e.Set, e.Offset, e.Need, e.Have)
	}
	return fmt.Sprintf("ipfix: set %d at offset %d: %s", e.Set, e.Offset, e.Reason)
}
