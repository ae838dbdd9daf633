package openflow

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Types of messages.
const (
	typeHello            = 0
	typeError            = 1
	typeEchoRequest      = 2
	typeEchoReply        = 3
	typePacketOut        = 13
	typeFlowMod          = 14
	typeMultipartRequest = 18
	typeMultipartReply   = 19
	typeBarrierRequest   = 20
	typeBarrierReply     = 21
	typeBundleControl    = 33
	typeBundleAdd        = 34

	version14 = 5
	headerLen = 8
	maxBody   = 65535 - headerLen
	maxWait   = 1 << 16          // bytes that leave together
	patience  = 10 * time.Second // for an answer
	maxFlows  = 1 << 20
)

// Conn is one session with a bridge. One goroutine at a time.
type Conn struct {
	c   net.Conn
	r   *bufio.Reader
	out []byte // messages that leave with the next question
	xid uint32
}

// Error is what a switch refused.
type Error struct{ Type, Code uint16 }

func (e *Error) Error() string {
	return fmt.Sprintf("openflow: the switch refuses: error type %d, code %d", e.Type, e.Code)
}

// Dial begins a session at unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT. conf is for ssl.
func Dial(ctx context.Context, network, address string, conf *tls.Config) (*Conn, error) {
	var nc net.Conn
	var err error
	if conf != nil {
		nc, err = (&tls.Dialer{Config: conf}).DialContext(ctx, network, address)
	} else {
		nc, err = (&net.Dialer{}).DialContext(ctx, network, address)
	}
	if err != nil {
		return nil, fmt.Errorf("openflow: %w", err)
	}
	c := &Conn{c: nc, r: bufio.NewReaderSize(nc, 64<<10)}
	c.deadline(ctx)
	if err := c.send(typeHello, nil); err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	typ, _, body, version, err := c.receive()
	switch {
	case err != nil:
	case typ == typeError:
		err = refusal(body)
	case typ != typeHello || version < version14:
		err = fmt.Errorf("openflow: %s speaks version %d, wanted %d (OpenFlow 1.4): enable it with \"ovs-vsctl set bridge NAME protocols=OpenFlow14\"", address, version, version14)
	}
	if err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	return c, nil
}

// Close ends the session.
func (c *Conn) Close() error { return c.c.Close() }

func (c *Conn) deadline(ctx context.Context) {
	d := time.Now().Add(patience)
	if until, ok := ctx.Deadline(); ok && until.Before(d) {
		d = until
	}
	_ = c.c.SetDeadline(d)
}

// send adds a message to those that leave before the next answer is read, unless they are many: a busy switch wakes once for all of them.
func (c *Conn) send(typ uint8, body []byte) error {
	if len(body) > maxBody {
		return fmt.Errorf("openflow: message of %d bytes, the limit is %d", len(body), maxBody)
	}
	c.xid++
	c.out = append(append(c.out, header(typ, len(body), c.xid)...), body...)
	if len(c.out) < maxWait {
		return nil
	}
	return c.flush()
}

func (c *Conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.c.Write(c.out)
	if c.out = c.out[:0]; err != nil {
		return fmt.Errorf("openflow: %w", err)
	}
	return nil
}

func header(typ uint8, body int, xid uint32) []byte {
	b := append(make([]byte, 0, headerLen+body), version14, typ)
	return be.AppendUint32(be.AppendUint16(b, uint16(headerLen+body)), xid)
}

// receive reads the next message; questions for a sign of life are answered on the way.
func (c *Conn) receive() (typ uint8, xid uint32, body []byte, version uint8, err error) {
	for {
		if err := c.flush(); err != nil {
			return 0, 0, nil, 0, err
		}
		var h [headerLen]byte
		if _, err := io.ReadFull(c.r, h[:]); err != nil {
			return 0, 0, nil, 0, fmt.Errorf("openflow: %w", err)
		}
		n := int(be.Uint16(h[2:]))
		if n < headerLen {
			return 0, 0, nil, 0, fmt.Errorf("openflow: message of %d bytes", n)
		}
		body = make([]byte, n-headerLen)
		if _, err := io.ReadFull(c.r, body); err != nil {
			return 0, 0, nil, 0, fmt.Errorf("openflow: %w", err)
		}
		if h[1] != typeEchoRequest {
			return h[1], be.Uint32(h[4:]), body, h[0], nil
		}
		c.out = append(append(c.out, header(typeEchoReply, len(body), be.Uint32(h[4:]))...), body...)
	}
}

// wait reads until a message of that type comes; what a switch tells unasked is passed over.
func (c *Conn) wait(want uint8) ([]byte, error) {
	for {
		typ, _, body, _, err := c.receive()
		switch {
		case err != nil:
			return nil, err
		case typ == typeError:
			return nil, refusal(body)
		case typ == want:
			return body, nil
		}
	}
}

func refusal(body []byte) error {
	if len(body) < 4 {
		return fmt.Errorf("openflow: an error of %d bytes", len(body))
	}
	return &Error{be.Uint16(body), be.Uint16(body[2:])}
}

// Bundle control (OpenFlow 1.4, section 7.3.9).
const (
	bundleOpen   = 0
	bundleCommit = 4
	bundleFlags  = 3 // atomic and ordered
)

// Replace removes the flows whose cookie has the value in the bits of the mask, and adds others, in one bundle: packets see the old flows or
// the new. It returns when the switch has done it.
func (c *Conn) Replace(ctx context.Context, cookie, mask uint64, flows []Flow, ports map[string]uint32) error {
	c.deadline(ctx)
	mods := [][]byte{deleteMod(cookie, mask)}
	for _, f := range flows {
		mod, err := f.mod(ports)
		if err != nil {
			return err
		}
		mods = append(mods, mod)
	}
	id := c.xid + 1
	control := func(typ uint16) error {
		b := be.AppendUint16(be.AppendUint32(nil, id), typ)
		return c.send(typeBundleControl, be.AppendUint16(b, bundleFlags))
	}
	if err := control(bundleOpen); err != nil {
		return err
	}
	for _, mod := range mods {
		b := append(be.AppendUint32(nil, id), 0, 0)
		b = be.AppendUint16(b, bundleFlags)
		b = append(b, header(typeFlowMod, len(mod), c.xid+1)...) // the number that send gives: both headers have the same one
		if err := c.send(typeBundleAdd, append(b, mod...)); err != nil {
			return err
		}
	}
	if err := control(bundleCommit); err != nil {
		return err
	}
	for range 2 { // the answers to the beginning and to the end; what is refused is told in between
		if _, err := c.wait(typeBundleControl); err != nil {
			return err
		}
	}
	return nil
}

// Count is what is known of the flows with one cookie.
type Count struct {
	Flows          int
	Packets, Bytes uint64
	HardTimeout    uint16 // of one of them
	Left           uint32 // seconds that this one has, when it has a timeout
}

// Counts returns the flows of all tables by cookie.
func (c *Conn) Counts(ctx context.Context) (map[uint64]Count, error) {
	c.deadline(ctx)
	const flowStats = 1
	b := append(be.AppendUint16(nil, flowStats), 0, 0, 0, 0, 0, 0) // no flags
	b = append(b, anyTable, 0, 0, 0)
	b = be.AppendUint32(b, anyPort)
	b = be.AppendUint32(b, anyPort)
	b = append(b, 0, 0, 0, 0)
	b = append(b, make([]byte, 16)...) // any cookie
	if err := c.send(typeMultipartRequest, append(b, oxmMatch(nil)...)); err != nil {
		return nil, err
	}
	out := map[uint64]Count{}
	for n := 0; ; {
		body, err := c.wait(typeMultipartReply)
		if err != nil {
			return nil, err
		}
		if len(body) < 8 {
			return nil, fmt.Errorf("openflow: statistics of %d bytes", len(body))
		}
		more := be.Uint16(body[2:])&1 != 0
		if err := count(body[8:], out, &n); err != nil {
			return nil, err
		}
		if !more {
			return out, nil
		}
	}
}

// SendOut has the switch send a frame out of a port, before it answers the next question.
func (c *Conn) SendOut(port uint32, frame []byte) error {
	action, err := Action{Output: "port"}.encode(map[string]uint32{"port": port})
	if err != nil {
		return err
	}
	const fromController = 0xfffffffd
	b := be.AppendUint32(be.AppendUint32(nil, noBuffer), fromController)
	b = append(be.AppendUint16(b, uint16(len(action))), 0, 0, 0, 0, 0, 0)
	return c.send(typePacketOut, append(append(b, action...), frame...))
}

// Barrier returns when the switch has done everything that it was told (OpenFlow 1.4, section 7.3.7).
func (c *Conn) Barrier(ctx context.Context) error {
	c.deadline(ctx)
	if err := c.send(typeBarrierRequest, nil); err != nil {
		return err
	}
	_, err := c.wait(typeBarrierReply)
	return err
}

// Local is the number of the port that has a bridge's own name (OpenFlow 1.4, section 7.2.1).
const Local = 0xfffffffe

// PortCount is what has passed a port, in packets.
type PortCount struct {
	In, Out    uint64 // into the switch, and out of it
	OutDropped uint64 // that should have gone out and did not, as while the interface is down
}

// PortCounts returns what has passed a port so far. For interfaces of the kernel it is what the kernel counts, at once; for tunnels and
// patches Open vSwitch (3.1.0) adds up what its cached flows count, up to half a second late.
func (c *Conn) PortCounts(ctx context.Context, port uint32) (PortCount, error) {
	c.deadline(ctx)
	const portStats = 4
	b := append(be.AppendUint16(nil, portStats), 0, 0, 0, 0, 0, 0) // no flags
	b = be.AppendUint32(b, port)
	if err := c.send(typeMultipartRequest, append(b, 0, 0, 0, 0)); err != nil {
		return PortCount{}, err
	}
	body, err := c.wait(typeMultipartReply)
	if err != nil {
		return PortCount{}, err
	}
	// Of the answer: its head, the port and the time, packets and octets in and out, and what was dropped (section 7.3.5.6).
	const head, in, out, outDropped = 8, 16, 24, 56
	if len(body) < head+outDropped+8 {
		return PortCount{}, fmt.Errorf("openflow: statistics of port %d have %d bytes", port, len(body))
	}
	at := func(off int) uint64 { return be.Uint64(body[head+off:]) }
	return PortCount{In: at(in), Out: at(out), OutDropped: at(outDropped)}, nil
}

// count adds up the entries of one answer.
func count(b []byte, out map[uint64]Count, n *int) error {
	for len(b) > 0 {
		const fixed = 48
		if len(b) < fixed {
			return fmt.Errorf("openflow: statistics end within an entry: %d bytes left", len(b))
		}
		size := int(be.Uint16(b))
		if size < fixed || size > len(b) {
			return fmt.Errorf("openflow: an entry of statistics has %d bytes, %d left", size, len(b))
		}
		if *n++; *n > maxFlows {
			return fmt.Errorf("openflow: more than %d flows", maxFlows)
		}
		cookie := be.Uint64(b[24:])
		c := out[cookie]
		c.Flows++
		c.Packets, c.Bytes = c.Packets+be.Uint64(b[32:]), c.Bytes+be.Uint64(b[40:])
		if hard := be.Uint16(b[16:]); hard > 0 {
			c.HardTimeout = hard
			c.Left = uint32(max(int64(hard)-int64(be.Uint32(b[4:])), 0))
		}
		out[cookie] = c
		b = b[size:]
	}
	return nil
}
