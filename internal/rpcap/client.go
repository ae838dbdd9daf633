package rpcap

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/bpf"

	"crosstap/internal/frame"
)

// ClientConfig says which remote end to capture at.
type ClientConfig struct {
	Host           string
	Port           uint16      // 0 for the default
	User, Password string      // both empty: null authentication
	TLS            *tls.Config // nil: the connections are in the clear
}

// CaptureConfig says what to capture.
type CaptureConfig struct {
	Device      string
	SnapLen     int // 0 for all
	Promiscuous bool
	Sampling    Sampling
	// Filter returns the program for the link type of the device; nil for all frames.
	Filter func(frame.LinkType) ([]bpf.RawInstruction, error)
}

// Client is a control connection. Its methods but Close and Stats are for one goroutine.
type Client struct {
	cfg  ClientConfig
	conn net.Conn
	data net.Conn
	in   *bufio.Reader
	link frame.LinkType

	mu sync.Mutex // of a request and its reply
}

// Times that a peer is waited for.
const (
	connectTimeout = 10 * time.Second
	replyTimeout   = 10 * time.Second
)

// Dial connects and logs in.
func Dial(ctx context.Context, cfg ClientConfig) (*Client, error) {
	if cfg.Port == 0 {
		cfg.Port = DefaultPort
	}
	c := &Client{cfg: cfg}
	var err error
	if c.conn, err = c.connect(ctx, cfg.Port); err != nil {
		return nil, fmt.Errorf("rpcap: %w", err)
	}
	if err := c.login(); err != nil {
		c.conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *Client) connect(ctx context.Context, port uint16) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(c.cfg.Host, strconv.Itoa(int(port))))
	if err != nil || c.cfg.TLS == nil {
		return conn, err
	}
	t := c.cfg.TLS.Clone()
	if t.ServerName == "" {
		t.ServerName = c.cfg.Host
	}
	secure := tls.Client(conn, t)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS with %s: %w", conn.RemoteAddr(), err)
	}
	return secure, nil
}

// login authenticates and looks whether a version is spoken by both. Old servers speak version 0 and say nothing of it.
func (c *Client) login() error {
	a := credentials{kind: authNull}
	if c.cfg.User != "" || c.cfg.Password != "" {
		a = credentials{authPassword, c.cfg.User, c.cfg.Password}
	}
	if len(a.user) > maxText || len(a.password) > maxText {
		return errors.New("rpcap: user or password is too long")
	}
	_, body, err := c.ask(msgAuth, a.append(nil))
	if err != nil {
		return fmt.Errorf("rpcap: login at %s: %w", c.conn.RemoteAddr(), err)
	}
	if len(body) >= 2 && body[0] > versionMax {
		return fmt.Errorf("rpcap: %s speaks versions %d to %d of the protocol, not %d", c.conn.RemoteAddr(), body[0], body[1], versionMax)
	}
	return nil
}

// ask sends a request and returns the reply's value and body.
func (c *Client) ask(kind uint8, body []byte) (uint16, []byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.conn.SetDeadline(time.Now().Add(replyTimeout)); err != nil {
		return 0, nil, err
	}
	if _, err := c.conn.Write(message(kind, 0, body)); err != nil {
		return 0, nil, err
	}
	h, body, err := readMessage(c.conn, nil, maxReply)
	if err != nil {
		return 0, nil, err
	}
	switch {
	case h.kind == msgError:
		return 0, nil, &Error{Code(h.value), printable(body)}
	case h.kind != kind|reply:
		return 0, nil, fmt.Errorf("rpcap: a message of type %d where one of type %d was due", h.kind, kind|reply)
	}
	return h.value, body, nil
}

// printable returns a foreign text without what could play with a terminal.
func printable(b []byte) string {
	const most = 500
	out := []rune(string(b[:min(len(b), most)]))
	for i, r := range out {
		if r < ' ' || r == 0x7f {
			out[i] = ' '
		}
	}
	return string(out)
}

// Interfaces returns what can be captured from.
func (c *Client) Interfaces() ([]Interface, error) {
	n, body, err := c.ask(msgFindAll, nil)
	if err != nil {
		return nil, fmt.Errorf("rpcap: interfaces of %s: %w", c.cfg.Host, err)
	}
	return parseInterfaces(body, int(n))
}

// Start opens a device and starts capturing from it. The data connection is opened to the port that the server names.
func (c *Client) Start(ctx context.Context, cc CaptureConfig) (frame.LinkType, error) {
	fail := func(what string, err error) (frame.LinkType, error) {
		return 0, fmt.Errorf("rpcap: %s %s at %s: %w", what, cc.Device, c.cfg.Host, err)
	}
	_, body, err := c.ask(msgOpen, []byte(cc.Device))
	if err != nil {
		return fail("open", err)
	}
	if len(body) < 4 {
		return fail("open", fmt.Errorf("a reply of %d bytes", len(body)))
	}
	if c.link, err = linkFromWire(binary.BigEndian.Uint32(body)); err != nil {
		return fail("open", err)
	}
	if cc.Sampling.Method != SampleAll {
		if _, _, err := c.ask(msgSampling, cc.Sampling.append(nil)); err != nil {
			return fail("sampling of", err)
		}
	}
	s, err := c.startRequest(&cc)
	if err != nil {
		return fail("filter for", err)
	}
	_, body, err = c.ask(msgStart, s.append(nil))
	if err != nil {
		return fail("start", err)
	}
	if len(body) < 8 || binary.BigEndian.Uint16(body[4:]) == 0 {
		return fail("start", errors.New("no port to fetch the frames from"))
	}
	if c.data, err = c.connect(ctx, binary.BigEndian.Uint16(body[4:])); err != nil {
		return fail("fetch frames of", err)
	}
	const buffer = 256 << 10
	c.in = bufio.NewReaderSize(c.data, buffer)
	return c.link, nil
}

func (c *Client) startRequest(cc *CaptureConfig) (start, error) {
	s := start{snapLen: maxCaptured, timeoutMS: 500, filter: []bpf.RawInstruction{{Op: classRET, K: maxCaptured}}}
	if cc.SnapLen > 0 {
		s.snapLen = uint32(cc.SnapLen)
	}
	if cc.Promiscuous {
		s.flags |= flagPromiscuous
	}
	if cc.Filter == nil {
		return s, nil
	}
	p, err := cc.Filter(c.link)
	if len(p) > 0 {
		s.filter = p
	}
	return s, err
}

// Buffered returns how many bytes are there without waiting.
func (c *Client) Buffered() int { return c.in.Buffered() }

// Next reads a frame into buf, which it makes longer when need be, and returns it with the bytes behind what buf held. Times are those of
// the remote clock, to the microsecond.
func (c *Client) Next(buf []byte) (frame.Frame, []byte, error) {
	h, err := c.in.Peek(headerLen + packetLen)
	if err != nil {
		return frame.Frame{}, buf, err
	}
	be := binary.BigEndian
	head := parseHeader(h)
	if head.kind != msgPacket {
		return frame.Frame{}, buf, fmt.Errorf("rpcap: a message of type %d among the frames", head.kind)
	}
	p := h[headerLen:]
	captured, orig := be.Uint32(p[8:]), be.Uint32(p[12:])
	if head.length < packetLen || captured != head.length-packetLen || captured > maxCaptured || orig < captured || orig > 1<<30 {
		return frame.Frame{}, buf, fmt.Errorf("rpcap: a message of %d bytes with a frame of %d of %d bytes", head.length, captured, orig)
	}
	f := frame.Frame{OrigLen: int(orig), Link: c.link, Dir: frame.Unknown, TimeNS: int64(be.Uint32(p))*1e9 + int64(be.Uint32(p[4:]))*1e3}
	if _, err := c.in.Discard(headerLen + packetLen); err != nil {
		return frame.Frame{}, buf, err
	}
	at, n := len(buf), int(captured)
	if cap(buf)-at < n {
		buf = append(buf, make([]byte, n)...)
	}
	buf = buf[:at+n]
	f.Data = buf[at : at+n : at+n]
	for read := 0; read < n; {
		m, err := c.in.Read(f.Data[read:])
		if err != nil {
			return frame.Frame{}, buf[:at], err
		}
		read += m
	}
	return f, buf, nil
}

// Stats asks for the figures of the capture. It is safe for concurrent use with Next.
func (c *Client) Stats() (Stats, error) {
	_, body, err := c.ask(msgStats, nil)
	if err != nil {
		return Stats{}, fmt.Errorf("rpcap: figures of %s: %w", c.cfg.Host, err)
	}
	return parseStats(body)
}

// End ends the capture at the remote end; frames that are on their way can still be read.
func (c *Client) End() error {
	_, _, err := c.ask(msgEnd, nil)
	return err
}

// Close takes leave and closes both connections.
func (c *Client) Close() {
	_ = c.conn.SetDeadline(time.Now().Add(time.Second))
	_, _ = c.conn.Write(message(msgClose, 0, nil))
	if c.data != nil {
		c.data.Close()
	}
	c.conn.Close()
}
