package libvirt

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"crosstap/internal/rpc"
)

// How a session that is silent is tested.
const (
	pingAfter = 5 * time.Second  // of silence
	deadAfter = 20 * time.Second // of silence
)

// Conn is one session with a daemon. Its methods are safe for concurrent use.
type Conn struct {
	calls *rpc.Session[[]byte]
	way   transport
	peer  string
	event func(Event)
}

// ErrClosed says that Close has ended the session.
var ErrClosed = errors.New("libvirt: session closed")

// Dial begins a session and opens the URI's driver. event, which may be nil, gets the events that Subscribe asks for, in their order,
// from one goroutine; while it runs, nothing is read, so it must not call the daemon.
func Dial(ctx context.Context, e Endpoint, event func(Event)) (*Conn, error) {
	way, err := e.dial(ctx)
	if err != nil {
		return nil, err
	}
	c := &Conn{calls: rpc.New[[]byte](way), way: way, peer: e.URI.String(), event: event}
	go c.read()
	go c.watchLife()
	if err := c.begin(ctx, e); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// begin authenticates and opens the driver.
func (c *Conn) begin(ctx context.Context, e Endpoint) error {
	if err := c.authenticate(ctx); err != nil {
		return c.named(err)
	}
	var open encoder
	open.optional(e.URI.remote())
	flags := uint32(0)
	if e.ReadOnly {
		flags = flagReadOnly
	}
	open.u32(flags)
	if err := c.call(ctx, procOpen, open.b, nil); err != nil {
		return c.named(fmt.Errorf("open %s: %w", e.URI.remote(), err))
	}
	return nil
}

// named adds the daemon's name to an error, which that of an ended session has already.
func (c *Conn) named(err error) error {
	if c.Err() != nil {
		return c.Err()
	}
	return fmt.Errorf("%s: %w", c.peer, err)
}

// authenticate does what the daemon asks for, as far as that needs nobody at a keyboard.
func (c *Conn) authenticate(ctx context.Context) error {
	var kinds []int32
	err := c.call(ctx, procAuthList, nil, func(d *decoder) {
		for range d.count(maxAuths, 4) {
			kinds = append(kinds, d.i32())
		}
	})
	if err != nil {
		return err
	}
	for _, k := range kinds {
		switch k {
		case authNone:
			return nil
		case authPolkit:
			if err := c.call(ctx, procAuthPolkit, nil, func(d *decoder) { d.i32() }); err != nil {
				return fmt.Errorf("polkit: %w; run as root or as a member of the group libvirt, or use the read-only socket", err)
			}
			return nil
		}
	}
	if len(kinds) > 0 {
		return errors.New("the daemon wants a password (SASL), which is not supported: use the local socket or ssh")
	}
	return nil
}

// Done is closed when the session has ended. Err then says why.
func (c *Conn) Done() <-chan struct{} { return c.calls.Done() }

// Err returns why the session ended, nil while it lasts.
func (c *Conn) Err() error { return c.calls.Err() }

// Close ends the session; calls that wait fail. It returns when no event is being handled any more, so it must not be called from
// one.
func (c *Conn) Close() error { return c.calls.Close(ErrClosed) }

// call calls a procedure. result reads the answer's payload; nil for an empty one.
func (c *Conn) call(ctx context.Context, procedure int32, args []byte, result func(*decoder)) error {
	body, err := c.calls.Do(ctx, func(serial uint32) error {
		return c.send(ctx, header{programRemote, programVersion, procedure, typeCall, serial, statusOK}, args)
	})
	switch {
	case err != nil && errors.Is(err, ctx.Err()):
		return fmt.Errorf("libvirt: procedure %d: %w", procedure, err)
	case err != nil:
		return err
	}
	d := newDecoder(body)
	if result != nil {
		result(d)
	}
	if err := d.end(); err != nil {
		return fmt.Errorf("libvirt: answer to procedure %d: %w", procedure, err)
	}
	return nil
}

// send writes one message.
func (c *Conn) send(ctx context.Context, h header, payload []byte) error {
	b := append(h.append(make([]byte, 0, lengthLen+headerLen+len(payload)), len(payload)), payload...)
	return c.calls.Write(ctx, b, c.broken)
}

// broken says why the session ended, in the words of ssh when it has any.
func (c *Conn) broken(err error) error {
	if said := c.way.Why(); said != "" {
		return fmt.Errorf("libvirt: %s: session ended: %s", c.peer, said)
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("the daemon closed it")
	}
	return fmt.Errorf("libvirt: %s: session ended: %w", c.peer, err)
}

// read handles what the daemon says until the session ends.
func (c *Conn) read() {
	r := bufio.NewReaderSize(c.way, 64<<10)
	c.calls.Run(func() error {
		b, err := message(r)
		if err == nil {
			err = c.handle(b)
		}
		return err
	}, c.broken)
}

// message reads one message, without its length.
func message(r io.Reader) ([]byte, error) {
	var length [lengthLen]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n < lengthLen+headerLen || n > maxMessage {
		return nil, fmt.Errorf("a message of %d bytes: want %d to %d", n, lengthLen+headerLen, maxMessage)
	}
	// What is announced is not made before it comes: a wrong length costs no memory.
	b, err := io.ReadAll(io.LimitReader(r, int64(n)-lengthLen))
	if err == nil && len(b) < int(n)-lengthLen {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}

// handle takes one message.
func (c *Conn) handle(b []byte) error {
	d := newDecoder(b)
	h := d.header()
	if d.failed() {
		return d.end()
	}
	switch {
	case h.program == programKeepAlive:
		if h.procedure == procKeepAlivePing {
			go func() { _ = c.send(context.Background(), keepAlive(procKeepAlivePong), nil) }() // the reader must not wait for the daemon to read
		}
	case h.program != programRemote:
	case h.kind == typeReply:
		c.answer(h, b[headerLen:], d)
	case h.kind == typeMessage && c.event != nil:
		if e, ok := d.event(h.procedure); ok {
			c.event(e)
		}
		return d.err
	}
	return nil
}

// answer gives an answer to the call that waits for it.
func (c *Conn) answer(h header, body []byte, d *decoder) {
	if h.status != statusOK {
		c.calls.Answer(h.serial, nil, refusal(d))
		return
	}
	c.calls.Answer(h.serial, body, nil)
}

func keepAlive(procedure int32) header {
	return header{programKeepAlive, programVersion, procedure, typeMessage, 0, statusOK}
}

// watchLife asks a silent daemon for a sign of life, and ends the session of one that gives none.
func (c *Conn) watchLife() {
	tick := time.NewTicker(pingAfter)
	defer tick.Stop()
	for {
		select {
		case <-c.Done():
			return
		case <-tick.C:
		}
		silent := time.Since(c.calls.Heard())
		switch {
		case silent > deadAfter:
			c.calls.End(fmt.Errorf("libvirt: %s: nothing heard for %s", c.peer, silent.Round(time.Second)))
		case silent >= pingAfter:
			_ = c.send(context.Background(), keepAlive(procKeepAlivePing), nil)
		}
	}
}
