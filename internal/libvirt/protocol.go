package libvirt

import (
	"errors"
	"fmt"
)

// Programs (remote_protocol.x, virkeepaliveprotocol.x).
const (
	programRemote    = 0x20008086
	programKeepAlive = 0x6b656570
	programVersion   = 1
)

// Message types and states (virnetprotocol.x).
const (
	typeCall    = 0
	typeReply   = 1
	typeMessage = 2

	statusOK    = 0
	statusError = 1
)

// Procedures of the remote program.
const (
	procOpen            = 1
	procClose           = 2
	procGetXML          = 14
	procGetHostname     = 59
	procInterfaceStats  = 65
	procAuthList        = 66
	procAuthPolkit      = 70
	procGetLibVersion   = 157
	procListAllDomains  = 273
	procRegisterEvent   = 316
	procEventLifecycle  = 318
	procEventRemoved    = 333
	procInterfaceAddrs  = 353
	procEventAdded      = 354
	procKeepAlivePing   = 1
	procKeepAlivePong   = 2
	authNone            = 0
	authPolkit          = 2
	flagReadOnly        = 1 // VIR_CONNECT_RO
	headerLen           = 24
	lengthLen           = 4
	eventIDLifecycle    = 0  // VIR_DOMAIN_EVENT_ID_LIFECYCLE
	eventIDRemoved      = 15 // VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED
	eventIDAdded        = 19 // VIR_DOMAIN_EVENT_ID_DEVICE_ADDED
	errNoSupport        = 3  // VIR_ERR_NO_SUPPORT
	errOperationDenied  = 29 // VIR_ERR_OPERATION_DENIED
	errNoDomain         = 42 // VIR_ERR_NO_DOMAIN
	errAuthFailed       = 45 // VIR_ERR_AUTH_FAILED
	errOperationInvalid = 55 // VIR_ERR_OPERATION_INVALID
	errAgent            = 86 // VIR_ERR_AGENT_UNRESPONSIVE
	errAccessDenied     = 88 // VIR_ERR_ACCESS_DENIED
	errAuthUnavailable  = 79 // VIR_ERR_AUTH_UNAVAILABLE
)

// header stands before every message's payload. The message's length, which counts itself, stands before the header.
type header struct {
	program, version uint32
	procedure        int32
	kind             uint32 // typeCall …
	serial           uint32
	status           uint32
}

func (h *header) append(b []byte, payload int) []byte {
	e := encoder{b}
	for _, v := range []uint32{uint32(lengthLen + headerLen + payload), h.program, h.version, uint32(h.procedure), h.kind, h.serial, h.status} {
		e.u32(v)
	}
	return e.b
}

func (d *decoder) header() (h header) {
	h.program, h.version = d.u32(), d.u32()
	h.procedure = d.i32()
	h.kind, h.serial, h.status = d.u32(), d.u32(), d.u32()
	return h
}

// Error is what the daemon says of a call that it refuses.
type Error struct {
	Code    int // virErrorNumber
	Message string
}

func (e *Error) Error() string { return fmt.Sprintf("libvirt: %s (error %d)", e.Message, e.Code) }

// NotFound reports whether the domain that was asked for is gone.
func NotFound(err error) bool { return hasCode(err, errNoDomain) }

// Denied reports whether the daemon refuses for want of a permission.
func Denied(err error) bool {
	return hasCode(err, errOperationDenied, errAuthFailed, errAccessDenied, errAuthUnavailable)
}

// Unsupported reports whether the daemon or its driver has no such call, or not in the domain's present state.
func Unsupported(err error) bool { return hasCode(err, errNoSupport, errOperationInvalid, errAgent) }

func hasCode(err error, codes ...int) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	for _, c := range codes {
		if e.Code == c {
			return true
		}
	}
	return false
}

// refusal reads a remote_error. One that cannot be read is an error of its own.
func refusal(d *decoder) error {
	e := &Error{Code: int(d.i32())}
	d.i32() // the part of libvirt that speaks
	e.Message = d.optional()
	d.i32() // how bad it is
	if d.present() {
		d.domain()
	}
	for range 3 {
		d.optional()
	}
	d.i32()
	d.i32()
	if d.present() { // a network
		d.str()
		d.bytes(16)
	}
	if err := d.end(); err != nil {
		return fmt.Errorf("libvirt: error message: %w", err)
	}
	if e.Message == "" {
		e.Message = "refused without a word"
	}
	return e
}
