package libvirt

import (
	"encoding/binary"
	"errors"
	"fmt"

	"crosstap/internal/wire"
)

// Limits of the protocol (virnetprotocol.x, remote_protocol.x).
const (
	maxMessage = 16 << 20 // VIR_NET_MESSAGE_MAX
	maxString  = 4 << 20  // REMOTE_STRING_MAX
	maxDomains = 16384    // REMOTE_DOMAIN_LIST_MAX
	maxIfaces  = 2048     // REMOTE_DOMAIN_INTERFACE_MAX
	maxAddrs   = 2048     // REMOTE_DOMAIN_IP_ADDR_MAX
	maxAuths   = 20       // REMOTE_AUTH_TYPE_LIST_MAX
)

// encoder writes XDR (RFC 4506).
type encoder struct{ b []byte }

func (e *encoder) u32(v uint32) { e.b = binary.BigEndian.AppendUint32(e.b, v) }

// bytes writes bytes of a length that both sides know (section 4.9).
func (e *encoder) bytes(b []byte) {
	e.b = append(e.b, b...)
	for range -len(b) & 3 {
		e.b = append(e.b, 0)
	}
}

// str writes a string (section 4.11).
func (e *encoder) str(s string) {
	e.u32(uint32(len(s)))
	e.bytes([]byte(s))
}

// optional writes a string that may be absent (section 4.19); "" is absent.
func (e *encoder) optional(s string) {
	if s == "" {
		e.u32(0)
		return
	}
	e.u32(1)
	e.str(s)
}

func (e *encoder) domain(d Domain) {
	e.str(d.Name)
	e.bytes(d.UUID[:])
	e.u32(uint32(d.ID))
}

// decoder reads XDR. The first error stays; every read after it gives zero.
type decoder struct {
	c   wire.Cursor
	err error // what the cursor cannot know: a count or a length beyond its limit
}

func newDecoder(b []byte) *decoder { return &decoder{c: wire.NewCursor(b)} }

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

// end returns the first error; bytes left over are one.
func (d *decoder) end() error {
	switch {
	case d.err != nil:
		return d.err
	case d.c.Err() != nil:
		return d.c.Err()
	case d.c.Len() > 0:
		return fmt.Errorf("%d bytes left over", d.c.Len())
	}
	return nil
}

func (d *decoder) failed() bool { return d.err != nil || d.c.Err() != nil }

func (d *decoder) u32() uint32 {
	if d.err != nil {
		return 0
	}
	return d.c.U32()
}

func (d *decoder) i32() int32 { return int32(d.u32()) }

func (d *decoder) u64() uint64 {
	if d.err != nil {
		return 0
	}
	return d.c.U64()
}

// bytes reads n bytes and the padding behind them; they are borrowed from the input.
func (d *decoder) bytes(n int) []byte {
	if d.err != nil {
		return nil
	}
	b := d.c.Bytes(n)
	d.c.Skip(-n & 3)
	return b
}

func (d *decoder) str() string {
	n := d.u32()
	if n > maxString {
		d.fail(fmt.Errorf("a string of %d bytes, at most %d", n, maxString))
		return ""
	}
	return string(d.bytes(int(n)))
}

// optional reads a string that may be absent.
func (d *decoder) optional() string {
	if d.present() {
		return d.str()
	}
	return ""
}

var errFlag = errors.New("neither 0 nor 1 says whether a value follows")

func (d *decoder) present() bool {
	v := d.u32()
	if v > 1 {
		d.fail(errFlag)
	}
	return v == 1
}

// count reads the number of elements of an array (section 4.13), each of which takes at least least bytes: a count that the
// bytes left cannot hold is refused before anything is made for it.
func (d *decoder) count(limit, least int) int {
	n := d.u32()
	if d.failed() {
		return 0
	}
	if n > uint32(limit) {
		d.fail(fmt.Errorf("%d elements, at most %d", n, limit))
		return 0
	}
	if int(n) > d.c.Len()/least {
		d.fail(wire.ErrShort)
		return 0
	}
	return int(n)
}

// leastDomain is the size of a domain without a name.
const leastDomain = 4 + 16 + 4

func (d *decoder) domain() (out Domain) {
	out.Name = d.str()
	copy(out.UUID[:], d.bytes(len(out.UUID)))
	out.ID = d.i32()
	return out
}
