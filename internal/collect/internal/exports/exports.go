// Package exports reads export datagrams out of captures, for the tests of the collect line.
package exports

import (
	"encoding/binary"
	"net/netip"
	"os"
	"testing"
)

// Datagram is one UDP payload of a capture.
type Datagram struct {
	From, To netip.AddrPort
	TimeNS   int64
	Data     []byte
}

const (
	fileHeader   = 24
	recordHeader = 16
	ethernet     = 14
	ipv4         = 20
	udp          = 8
)

// Read returns the UDP payloads to one port, in the order of a pcap file (Ethernet, IPv4 without options or
// fragments, little endian).
func Read(tb testing.TB, path string, port uint16) []Datagram {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	if len(b) < fileHeader || binary.LittleEndian.Uint32(b) != 0xa1b2c3d4 {
		tb.Fatalf("%s is no little-endian pcap file with microseconds", path)
	}
	var out []Datagram
	for b = b[fileHeader:]; len(b) >= recordHeader; {
		sec, usec, n := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), int(binary.LittleEndian.Uint32(b[8:]))
		frame := b[recordHeader : recordHeader+n]
		b = b[recordHeader+n:]
		if d, ok := payload(frame); ok && d.To.Port() == port {
			d.TimeNS = int64(sec)*1e9 + int64(usec)*1e3
			out = append(out, d)
		}
	}
	if len(out) == 0 {
		tb.Fatalf("%s holds nothing for port %d", path, port)
	}
	return out
}

func payload(f []byte) (Datagram, bool) {
	if len(f) < ethernet+ipv4+udp || binary.BigEndian.Uint16(f[12:]) != 0x0800 || f[ethernet] != 0x45 || f[ethernet+9] != 17 {
		return Datagram{}, false
	}
	ip := f[ethernet:]
	u := ip[ipv4:]
	size := int(binary.BigEndian.Uint16(u[4:]))
	if size < udp || size > len(u) {
		return Datagram{}, false
	}
	return Datagram{
		From: netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[12:16])), binary.BigEndian.Uint16(u)),
		To:   netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[16:20])), binary.BigEndian.Uint16(u[2:])),
		Data: u[udp:size],
	}, true
}
