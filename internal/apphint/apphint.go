// Package apphint tells the application of a flow from the first bytes of its payload: which protocol it speaks, how that is known, and
// the name it asks for. It looks at single packets and puts together the first message of TLS and QUIC when that came in
// several. It never fails: what it does not know it leaves to the ports.
package apphint

import "crosstap/internal/flow"

// App is an application that payload can tell.
type App uint8

// The applications.
const (
	Unknown App = iota
	TLS         // with no protocol agreed on that has a name here
	QUIC
	HTTP
	HTTPS // HTTP over TLS or QUIC
	DNS
	MDNS
	LLMNR
	DNSTLS
	DNSQUIC
	SSH
	SMTPS
	IMAPS
	POP3S
	XMPP
	MQTTS
	FTPS
	PostgreSQL
	SIPS
	STUNS
	ACME
	NTS
	RDP
	SMBQUIC
	numApps
)

var names = [numApps]string{
	TLS: "tls", QUIC: "quic", HTTP: "http", HTTPS: "https", DNS: "dns", MDNS: "mdns", LLMNR: "llmnr", DNSTLS: "dns-tls", DNSQUIC: "dns-quic",
	SSH: "ssh", SMTPS: "smtps", IMAPS: "imaps", POP3S: "pop3s", XMPP: "xmpp", MQTTS: "mqtts", FTPS: "ftps", PostgreSQL: "postgresql",
	SIPS: "sips", STUNS: "stuns", ACME: "acme", NTS: "nts", RDP: "rdp", SMBQUIC: "smb-quic",
}

// String returns the application's name, as the tables of ports have it.
func (a App) String() string {
	if a < numApps {
		return names[a]
	}
	return ""
}

// Service returns the application's name, with the help of the ports: TLS on a port that is registered for a service over
// TLS is that service.
func (a App) Service(proto uint8, src, dst uint16) string {
	if a == TLS {
		for _, port := range [...]uint16{dst, src} {
			if overTLS[port] {
				return OfPort(proto, port)
			}
		}
	}
	return a.String()
}

// Packet is what there is to know of one packet.
type Packet struct {
	Proto            uint8
	SrcPort, DstPort uint16
	Seq              uint32 // TCP sequence number of the first byte of Payload
	Payload          []byte // what follows the transport header, as far as it was captured
}

// Hint is what a packet tells.
type Hint struct {
	App  App
	How  flow.AppHow
	Name []byte // lower case, at most MaxName bytes of a host name's characters; valid until the next call
	More bool   // the message goes on in packets to come: a Part can put it together
}

// MaxName is the length of the longest name, that of a domain name (RFC 1035, section 2.3.4).
const MaxName = 255

const (
	protoTCP = 6
	protoUDP = 17
)

// Inspector looks at packets. It may be used by one goroutine at a time.
type Inspector struct {
	name  [MaxName]byte
	plain [maxDatagram]byte // a decrypted QUIC packet
	text  [partBytes]byte   // a handshake message of several TLS records
	whole Part              // the message of the packet at hand
}

// New returns an Inspector.
func New() *Inspector { return new(Inspector) }

// Look tells what it can of a packet. With a part, which must have been reset before the first packet of a message, the packet's
// bytes are joined to those before it. Only a QUIC Initial packet makes it allocate.
func (in *Inspector) Look(p *Packet, part *Part) Hint {
	switch b := p.Payload; {
	case p.Proto == protoTCP && part != nil && part.n > 0:
		return in.tls(p, part)
	case len(b) < 4:
	case p.Proto == protoTCP:
		return in.stream(p, part)
	case p.Proto == protoUDP && (dnsPort(p.SrcPort) || dnsPort(p.DstPort)):
		return in.dns(b, p)
	case p.Proto == protoUDP && Costly(p):
		return in.quic(b, part)
	case p.Proto == protoUDP && plainQuery(b) && OfPort(protoUDP, p.SrcPort)+OfPort(protoUDP, p.DstPort) == "": // NetBIOS asks alike
		return in.dns(b, p)
	}
	return Hint{}
}

// stream looks at the first bytes of one direction of a TCP connection.
func (in *Inspector) stream(p *Packet, part *Part) Hint {
	b := p.Payload
	switch {
	case b[0] == recordHandshake && b[1] == 3:
		return in.tls(p, part)
	case string(b[:4]) == "SSH-":
		return in.ssh(b)
	case p.SrcPort == portDNS || p.DstPort == portDNS:
		const lengthPrefix = 2 // RFC 1035, section 4.2.2
		return in.dns(b[lengthPrefix:], p)
	}
	return in.http(b)
}

// ssh reads an identification string (RFC 4253, section 4.2) without its comment.
func (in *Inspector) ssh(b []byte) Hint {
	n := 0
	for n < len(b) && b[n] > ' ' && b[n] < 0x7f {
		n++
	}
	return Hint{App: SSH, How: flow.AppSSH, Name: in.clean(b[:n])}
}

// clean returns a name in lower case. A byte that host names do not have becomes a question mark, and a name that is too long is cut.
func (in *Inspector) clean(b []byte) []byte {
	n := copy(in.name[:], b)
	for i, c := range in.name[:n] {
		switch {
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '.', c == '_', c == ':', c == '[', c == ']', c == '*', c == '/':
		default:
			c = '?'
		}
		in.name[i] = c
	}
	return in.name[:n]
}

// host returns the name of a host without the dot that may end it.
func (in *Inspector) host(b []byte) []byte {
	if n := len(b); n > 1 && b[n-1] == '.' {
		b = b[:n-1]
	}
	return in.clean(b)
}
