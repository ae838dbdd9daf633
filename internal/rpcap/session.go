package rpcap

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"time"
)

// secure looks at a client's first byte: TLS begins with 22, a request with its version. Who speaks the other way is told so in the way
// that it understands.
func (s *Server) secure(raw net.Conn) (net.Conn, error) {
	const handshake, alert, fatal, handshakeFailure = 22, 21, 2, 40
	if err := raw.SetDeadline(time.Now().Add(s.cfg.LoginTimeout)); err != nil {
		return nil, err
	}
	conn := &peeked{Conn: raw, in: bufio.NewReader(raw)}
	first, err := conn.in.Peek(3)
	if err != nil {
		return nil, err
	}
	switch {
	case first[0] == handshake && s.cfg.TLS == nil:
		_, _ = raw.Write([]byte{alert, first[1], first[2], 0, 2, fatal, handshakeFailure})
		return nil, errors.New("it wants TLS, which is not set up here")
	case first[0] == handshake:
		t := tls.Server(conn, s.cfg.TLS)
		if err := t.Handshake(); err != nil {
			return nil, fmt.Errorf("TLS: %w", err)
		}
		return t, nil
	case s.cfg.TLS != nil:
		_, _ = raw.Write(message(msgError, uint16(CodeTLSRequired), []byte("TLS is required by this server")))
		return nil, errors.New("it does not want TLS, which is required")
	}
	return conn, nil
}

// peeked is a connection whose first bytes were looked at.
type peeked struct {
	net.Conn
	in *bufio.Reader
}

func (p *peeked) Read(b []byte) (int, error) { return p.in.Read(b) }

// client is the server's side of a control connection.
type client struct {
	server   *Server
	conn     net.Conn
	log      *slog.Logger
	loggedIn bool
	failures int // of logging in
	point    int
	opened   bool
	sampling Sampling
	capture  *capture
	last     Stats // of the capture before
}

// errLeave ends a conversation in order.
var errLeave = errors.New("the client takes its leave")

// converse answers requests until the client leaves or is quiet for too long.
func (c *client) converse(ctx context.Context) error {
	var buf []byte
	for {
		if err := c.conn.SetReadDeadline(c.deadline()); err != nil {
			return err
		}
		h, body, err := readMessage(c.conn, buf, maxRequest)
		if err != nil {
			return c.silent(err)
		}
		buf = body[:0]
		_ = c.conn.SetWriteDeadline(time.Now().Add(replyTimeout))
		switch err := c.answer(ctx, h, body); {
		case errors.Is(err, errLeave):
			return nil
		case err != nil:
			return err
		}
	}
}

// deadline is when a client has been quiet for too long. One that captures may be.
func (c *client) deadline() time.Time {
	switch {
	case !c.loggedIn:
		return time.Now().Add(c.server.cfg.LoginTimeout)
	case c.capture != nil:
		return time.Time{}
	}
	return time.Now().Add(c.server.cfg.IdleTimeout)
}

// silent tells a client that was quiet for too long why it is left.
func (c *client) silent(err error) error {
	var timeout net.Error
	if errors.Is(err, io.EOF) {
		return nil
	}
	if errors.As(err, &timeout) && timeout.Timeout() {
		code := CodeIdle
		if !c.loggedIn {
			code = CodeInitTimeout
		}
		_ = c.conn.SetWriteDeadline(time.Now().Add(time.Second))
		_ = c.fail(code, "the client was quiet for too long")
		return errors.New("it was quiet for too long")
	}
	return err
}

func (c *client) send(kind uint8, value uint16, body []byte) error {
	_, err := c.conn.Write(message(kind, value, body))
	return err
}

func (c *client) fail(code Code, text string) error {
	return c.send(msgError, uint16(code), []byte(text))
}

// answer answers one request. Its error ends the conversation.
func (c *client) answer(ctx context.Context, h header, body []byte) error {
	switch {
	case h.kind == msgClose:
		return errLeave
	case h.version != versionMax:
		return c.fail(CodeWrongVersion, "RPCAP version in message isn't supported by the server")
	case h.kind == msgAuth:
		return c.login(ctx, body)
	case !c.loggedIn:
		return c.fail(CodeWrongMessage, "log in first")
	}
	switch h.kind {
	case msgFindAll:
		return c.interfaces()
	case msgOpen:
		return c.open(string(body))
	case msgStart:
		return c.start(ctx, body)
	case msgUpdateFilter:
		return c.update(body)
	case msgStats:
		return c.send(msgStats|reply, 0, c.stats().append(nil))
	case msgSampling:
		return c.sample(body)
	case msgEnd:
		if c.capture == nil {
			return c.fail(CodeEnd, "no capture is running")
		}
		c.stop()
		return c.send(msgEnd|reply, 0, nil)
	}
	return c.fail(CodeWrongMessage, fmt.Sprintf("a message of type %d is not known", h.kind))
}

// login takes null and password authentication. After a wrong password the client waits, and after three it is left.
func (c *client) login(ctx context.Context, body []byte) error {
	const wait, most = time.Second, 3
	a, err := parseCredentials(body)
	if err != nil {
		return c.fail(CodeAuth, err.Error())
	}
	if a.kind > authPassword {
		return c.fail(CodeAuthType, "authentication type isn't supported")
	}
	if !c.server.allowed(&a) {
		c.failures++
		c.log.Warn("rpcap login refused", "failures", c.failures)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		if err := c.fail(CodeLogin, "Authentication failed"); err != nil || c.failures < most {
			return err
		}
		return errors.New("three wrong passwords")
	}
	if !c.loggedIn {
		c.log.Info("rpcap client logged in")
	}
	c.loggedIn = true
	return c.send(msgAuth|reply, 0, authReply())
}

func (c *client) interfaces() error {
	list := c.server.cfg.Interfaces()
	if len(list) == 0 {
		return c.fail(CodeNoInterfaces, "No interfaces found")
	}
	list = list[:min(len(list), maxText)]
	body := appendInterfaces(nil, list)
	for len(body) > maxReply {
		list = list[:len(list)/2]
		body = appendInterfaces(body[:0], list)
	}
	return c.send(msgFindAll|reply, uint16(len(list)), body)
}

func (c *client) open(name string) error {
	for point, i := range c.server.cfg.Interfaces() {
		if i.Name == name {
			c.opened, c.point = true, point
			return c.send(msgOpen|reply, 0, binary.BigEndian.AppendUint64(nil, uint64(linkToWire(i.Link))<<32))
		}
	}
	return c.fail(CodeOpen, name+": No such device exists")
}

// start opens the data connection and adds the capture to those that frames are given to.
func (c *client) start(ctx context.Context, body []byte) error {
	s, err := parseStart(body)
	var filter program
	if err == nil {
		filter, err = checkProgram(s.filter)
	}
	switch {
	case err != nil:
		return c.fail(CodeStart, err.Error())
	case !c.opened:
		return c.fail(CodeStart, "open a device first")
	case c.capture != nil:
		return c.fail(CodeStart, "a capture is running")
	case s.flags&flagDatagram != 0 && c.server.cfg.TLS != nil:
		return c.fail(CodeStart, "SSL not supported with UDP forward of remote packets")
	}
	conn, err := c.connect(ctx, &s)
	if err != nil {
		c.log.Warn("rpcap data connection failed", "error", err)
		return c.fail(CodeStart, err.Error())
	}
	if conn == nil {
		return errors.New("it did not fetch its frames")
	}
	c.capture = newCapture(c.server, conn, uint32(c.point), s, filter, c.sampling)
	c.log.Info("rpcap capture begins", "interface", c.server.name(uint32(c.point)), "instructions", len(filter))
	return nil
}

// connect opens the data connection as the client wants it, and answers the request.
func (c *client) connect(ctx context.Context, s *start) (net.Conn, error) {
	const buffer = 2 << 20 // what rpcapd says of an ordinary device
	answer := func(port int) error {
		b := binary.BigEndian.AppendUint32(nil, buffer)
		b = binary.BigEndian.AppendUint16(b, uint16(port))
		return c.send(msgStart|reply, 0, append(b, 0, 0))
	}
	peer, _, err := net.SplitHostPort(c.conn.RemoteAddr().String())
	if err != nil {
		return nil, err
	}
	if s.flags&(flagServerOpens|flagDatagram) != 0 {
		conn, err := c.dial(ctx, s, net.JoinHostPort(peer, strconv.Itoa(int(s.port))))
		if err != nil {
			return nil, err
		}
		if err := answer(0); err != nil {
			conn.Close()
			return nil, err
		}
		return c.shake(conn)
	}
	l, err := c.listen(ctx)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	if err := answer(l.Addr().(*net.TCPAddr).Port); err != nil {
		return nil, err
	}
	return c.accept(ctx, l, peer)
}

func (c *client) dial(ctx context.Context, s *start, to string) (net.Conn, error) {
	network := "tcp"
	if s.flags&flagDatagram != 0 {
		network = "udp"
	}
	d := net.Dialer{Timeout: connectTimeout}
	return d.DialContext(ctx, network, to)
}

// listen opens a port where the control connection arrived.
func (c *client) listen(ctx context.Context) (net.Listener, error) {
	host, _, err := net.SplitHostPort(c.conn.LocalAddr().String())
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(c.server.cfg.DataPort))))
}

// accept waits for the data connection of this client; others' are refused. nil when none came.
func (c *client) accept(ctx context.Context, l net.Listener, peer string) (net.Conn, error) {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(connectTimeout))
	for {
		conn, err := l.Accept()
		if err != nil {
			return nil, nil //nolint:nilerr // the request is answered: there is nobody to tell
		}
		if from, _, _ := net.SplitHostPort(conn.RemoteAddr().String()); from == peer {
			return c.shake(conn)
		}
		conn.Close()
	}
}

// shake makes the data connection as safe as the control connection.
func (c *client) shake(conn net.Conn) (net.Conn, error) {
	if c.server.cfg.TLS == nil {
		return conn, nil
	}
	t := tls.Server(conn, c.server.cfg.TLS)
	_ = t.SetDeadline(time.Now().Add(connectTimeout))
	if err := t.Handshake(); err != nil {
		conn.Close()
		return nil, nil //nolint:nilerr // as in accept
	}
	_ = t.SetDeadline(time.Time{})
	return t, nil
}

func (c *client) update(body []byte) error {
	if c.capture == nil {
		return c.fail(CodeFilter, "no capture is running")
	}
	raw, err := parseFilter(body)
	if err != nil {
		return c.fail(CodeFilter, err.Error())
	}
	p, err := checkProgram(raw)
	if err != nil {
		return c.fail(CodeFilter, err.Error())
	}
	c.capture.setFilter(p)
	return c.send(msgUpdateFilter|reply, 0, nil)
}

func (c *client) sample(body []byte) error {
	s, err := parseSampling(body)
	if err != nil {
		return c.fail(CodeSampling, err.Error())
	}
	c.sampling = s
	if c.capture != nil {
		c.capture.setSampling(s)
	}
	return c.send(msgSampling|reply, 0, nil)
}

func (c *client) stats() Stats {
	if c.capture == nil {
		return c.last
	}
	return c.capture.stats()
}

// stop ends the client's capture, if one is running.
func (c *client) stop() {
	if c.capture == nil {
		return
	}
	c.capture.close()
	c.last = c.capture.stats()
	c.capture = nil
}

// name returns the name of a point's interface.
func (s *Server) name(point uint32) string {
	if list := s.cfg.Interfaces(); int(point) < len(list) {
		return list[point].Name
	}
	return ""
}
