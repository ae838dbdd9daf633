package listen

import (
	"net/netip"

	"crosstap/internal/flowproto"
)

// Transport is how a datagram or message came.
type Transport uint8

// The transports.
const (
	UDP Transport = iota
	TCP
	TLS
	DTLS
)

var transportNames = [...]string{"udp", "tcp", "tls", "dtls"}

// String returns the transport's name, as used in addresses and labels.
func (t Transport) String() string { return transportNames[t%4] }

// Stream reports whether the exporter waits for us: what it sends over TCP is never shed here.
func (t Transport) Stream() bool { return t == TCP || t == TLS }

// Datagram is one UDP payload, or one message of a stream. Data belongs to the batch.
type Datagram struct {
	Data     []byte
	From     netip.AddrPort // the exporter's transport address, IPv4 never mapped
	Local    netip.AddrPort // the address it was sent to
	TimeNS   int64          // when the kernel (UDP) or we (streams) received it, nanoseconds since the Unix epoch, UTC
	Conn     uint64         // number of the connection, 0 for UDP; never used twice by one process
	Protocol flowproto.Protocol
	Via      Transport
	End      bool // the connection is closed; there is no data
}

// Batch is a run of datagrams in the order they came. Whoever receives a batch calls Release once when it
// no longer needs any of the bytes.
type Batch struct {
	Datagrams []Datagram
	Free      func() // gives the memory back; nil when there is nothing to do
}

// Release gives the batch's memory back to its source. The datagrams must not be used after.
func (b *Batch) Release() {
	if b.Free != nil {
		b.Free()
		b.Free = nil
	}
	b.Datagrams = nil
}
