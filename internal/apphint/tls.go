package apphint

import (
	"encoding/binary"

	"crosstap/internal/flow"
)

// Of RFC 8446, sections 4 and 5.1, RFC 6066, section 3, and RFC 7301, section 3.1.
const (
	recordHandshake = 22
	recordLen       = 5
	clientHello     = 1
	serverHello     = 2
	handshakeLen    = 4
	extServerName   = 0
	extALPN         = 16
)

// tls reads the first message of one direction of a TLS connection over TCP.
func (in *Inspector) tls(p *Packet, part *Part) Hint {
	b := p.Payload
	if part != nil {
		if part.n == 0 {
			part.seq = p.Seq
		}
		part.add(int(int32(p.Seq-part.seq)), b)
		b = part.prefix()
	}
	msg, ok := in.handshake(b)
	if !ok || len(msg) == 0 {
		return Hint{}
	}
	h := in.hello(msg, TLS, flow.AppTLS)
	if part != nil && part.full() {
		h.More = false
	}
	return h
}

// handshake takes the handshake messages out of TLS records.
func (in *Inspector) handshake(b []byte) (msg []byte, ok bool) {
	for len(b) >= recordLen && b[0] == recordHandshake && b[1] == 3 {
		size := int(binary.BigEndian.Uint16(b[3:]))
		if size == 0 || size > 1<<14 { // RFC 8446, section 5.1
			break
		}
		b = b[recordLen:]
		n := min(size, len(b))
		switch {
		case msg == nil:
			msg = b[:n:n]
		case len(msg)+n > len(in.text):
			return msg, true
		default: // the second record, or a later one
			if &msg[0] != &in.text[0] {
				msg = in.text[:copy(in.text[:], msg)]
			}
			msg = in.text[:len(msg)+copy(in.text[len(msg):], b[:n])]
		}
		b = b[n:]
		if len(msg) >= handshakeLen && len(msg) >= handshakeLen+messageLen(msg) {
			break
		}
	}
	return msg, msg != nil
}

func messageLen(msg []byte) int { return int(binary.BigEndian.Uint32(msg) & 0xffffff) }

// hello reads a ClientHello as far as it is there. A ServerHello says that it is TLS, no more.
func (in *Inspector) hello(msg []byte, app App, how flow.AppHow) Hint {
	h := Hint{App: app, How: how}
	switch msg[0] {
	case serverHello:
		return h
	case clientHello:
	default:
		return Hint{}
	}
	if len(msg) < handshakeLen {
		h.More = true
		return h
	}
	size := messageLen(msg)
	if size < 38 || size > 1<<16 { // version, random, three lengths
		return Hint{}
	}
	b := msg[handshakeLen:min(len(msg), handshakeLen+size)]
	if len(b) >= 2 && b[0] != 3 {
		return Hint{}
	}
	whole := len(b) == size
	name, proto := false, false
	for ext := extensions(b); len(ext) >= 4; {
		kind, n := binary.BigEndian.Uint16(ext), int(binary.BigEndian.Uint16(ext[2:]))
		ext = ext[4:]
		if n > len(ext) {
			break
		}
		switch kind {
		case extServerName:
			if s := serverName(ext[:n]); len(s) > 0 {
				h.Name, name = in.host(s), true
			}
		case extALPN:
			h.App, proto = alpn(ext[:n], app), true
		}
		ext = ext[n:]
	}
	h.More = !whole && !(name && proto)
	return h
}

// extensions returns the extensions of a ClientHello, as far as they are there.
func extensions(b []byte) []byte {
	const fixed = 2 + 32 // version and random
	if len(b) < fixed {
		return nil
	}
	b = b[fixed:]
	for _, width := range [...]int{1, 2, 1} { // session identifier, cipher suites, compression methods
		if len(b) < width {
			return nil
		}
		n := int(b[0])
		if width == 2 {
			n = int(binary.BigEndian.Uint16(b))
		}
		if b = b[width:]; n > len(b) {
			return nil
		}
		b = b[n:]
	}
	if len(b) < 2 {
		return nil
	}
	n := int(binary.BigEndian.Uint16(b))
	return b[2:min(len(b), 2+n)]
}

// serverName returns the first host name of a server_name extension.
func serverName(b []byte) []byte {
	if len(b) < 2 {
		return nil
	}
	for b = b[2:]; len(b) >= 3; {
		kind, n := b[0], int(binary.BigEndian.Uint16(b[1:]))
		if b = b[3:]; n > len(b) {
			return nil
		}
		if kind == 0 {
			return b[:n]
		}
		b = b[n:]
	}
	return nil
}

// alpn returns the application of the first protocol that has a name here.
func alpn(b []byte, app App) App {
	if len(b) < 2 {
		return app
	}
	for b = b[2:]; len(b) > 0; {
		n := int(b[0])
		if b = b[1:]; n > len(b) {
			break
		}
		if a := protocolApp(b[:n]); a != Unknown {
			return a
		}
		b = b[n:]
	}
	return app
}

// protocolApp returns the application of a protocol identifier that is registered with IANA for ALPN.
func protocolApp(id []byte) App {
	switch string(id) {
	case "h2", "http/1.1", "http/1.0", "h3", "h3-29", "spdy/3", "spdy/3.1":
		return HTTPS
	case "dot":
		return DNSTLS
	case "doq":
		return DNSQUIC
	case "smtp":
		return SMTPS
	case "imap", "managesieve":
		return IMAPS
	case "pop3":
		return POP3S
	case "xmpp-client", "xmpp-server":
		return XMPP
	case "mqtt":
		return MQTTS
	case "ftp":
		return FTPS
	case "postgresql":
		return PostgreSQL
	case "sip/2":
		return SIPS
	case "stun.turn", "stun.nat-discovery":
		return STUNS
	case "acme-tls/1":
		return ACME
	case "ntske/1":
		return NTS
	case "smb":
		return SMBQUIC
	}
	return Unknown
}
