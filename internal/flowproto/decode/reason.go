package decode

import "fmt"

// Reason says why bytes could not be decoded. The list is fixed, so that it can label a counter.
type Reason uint8

// The reasons.
const (
	BadVersion    Reason = iota // the version word is none that the decoder knows
	BadLength                   // a header's length is less than the header
	ShortMessage                // the message says it is longer than the bytes there are
	BadSet                      // a set's length is impossible; the rest of the message is lost
	UnknownSet                  // a set identifier that the protocol reserves
	BadTemplate                 // a template record that cannot describe a record
	BadRecord                   // a record reaches beyond its set or sample
	TemplateLimit               // an old template was forgotten to make room
	PendingLimit                // a set was thrown away before its template came
	DomainLimit                 // more observation domains than are accounted for
	BadCount                    // the header counts more or fewer records than there are bytes for
	BadSample                   // an sFlow sample whose length is impossible
	NumReasons    int    = iota // how many reasons there are
)

var reasons = [NumReasons]string{
	"bad-version", "bad-length", "short-message", "bad-set", "unknown-set", "bad-template", "bad-record",
	"template-limit", "pending-limit", "domain-limit", "bad-count", "bad-sample",
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
	Protocol Protocol
	Reason   Reason
	Set      uint16 // identifier of the set, 0 when the message itself is wrong
	Offset   int    // bytes from the message's start
	Need     int    // bytes needed, or the least value allowed
	Have     int    // bytes there, or the value found
}

// Error says where, what and why.
func (e *Error) Error() string {
	p := e.Protocol
	switch e.Reason {
	case BadVersion:
		return fmt.Sprintf("%s: message: version is %d, want %d", p, e.Have, e.Need)
	case BadLength:
		return fmt.Sprintf("%s: message: length is %d, the header alone has %d", p, e.Have, e.Need)
	case ShortMessage:
		return fmt.Sprintf("%s: message: needs %d bytes, %d there", p, e.Need, e.Have)
	case UnknownSet:
		return fmt.Sprintf("%s: set at offset %d: identifier %d is reserved", p, e.Offset, e.Set)
	case BadTemplate:
		return fmt.Sprintf("%s: template %d at offset %d: needs %d bytes, %d left", p, e.Set, e.Offset, e.Need, e.Have)
	case BadRecord:
		return fmt.Sprintf("%s: set %d at offset %d: record needs %d bytes, %d left", p, e.Set, e.Offset, e.Need, e.Have)
	case BadSet:
		return fmt.Sprintf("%s: set %d at offset %d: length is %d, %d bytes left", p, e.Set, e.Offset, e.Need, e.Have)
	case BadCount:
		if e.Protocol == NetFlow9 {
			return fmt.Sprintf("%s: set %d at offset %d: the header's count ends before it", p, e.Set, e.Offset)
		}
		return fmt.Sprintf("%s: message: its count needs %d bytes, %d there", p, e.Need, e.Have)
	case BadSample:
		return fmt.Sprintf("%s: sample at offset %d: needs %d bytes, %d left", p, e.Offset, e.Need, e.Have)
	}
	return fmt.Sprintf("%s: set %d at offset %d: %s", p, e.Set, e.Offset, e.Reason)
}
