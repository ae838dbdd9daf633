// Package rpcap speaks the remote capture protocol of libpcap, both ways: a client that captures on another host, and a server that
// gives frames to libpcap's clients, such as Wireshark and tcpdump. It knows frames, not where they come from or go to.
//
// The protocol is that of libpcap's rpcapd, version 0: requests and replies on a control connection, packets on a data connection.
package rpcap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/net/bpf"

	"crosstap/internal/frame"
	"crosstap/internal/wire"
)

// DefaultPort is the control connection's.
const DefaultPort = 2002

// Types of messages; a reply has the highest bit set.
const (
	msgError        = 1
	msgFindAll      = 2
	msgOpen         = 3
	msgStart        = 4
	msgUpdateFilter = 5
	msgClose        = 6
	msgPacket       = 7
	msgAuth         = 8
	msgStats        = 9
	msgEnd          = 10
	msgSampling     = 11

	reply = 0x80
)

// Code is the value of an error message.
type Code uint16

// Error codes.
const (
	CodeNetwork      Code = 1
	CodeInitTimeout  Code = 2
	CodeAuth         Code = 3
	CodeFindAll      Code = 4
	CodeNoInterfaces Code = 5
	CodeOpen         Code = 6
	CodeFilter       Code = 7
	CodeStats        Code = 8
	CodeHost         Code = 10
	CodeStart        Code = 12
	CodeEnd          Code = 13
	CodeIdle         Code = 14
	CodeSampling     Code = 15
	CodeWrongMessage Code = 16
	CodeWrongVersion Code = 17
	CodeLogin        Code = 18
	CodeTLSRequired  Code = 19
	CodeAuthType     Code = 20
)

// Error is what the other end says went wrong.
type Error struct {
	Code Code
	Text string
}

func (e *Error) Error() string {
	return fmt.Sprintf("the remote end says: %s (error %d)", e.Text, e.Code)
}

// Lengths of messages, and their bounds.
const (
	headerLen   = 8
	packetLen   = 20
	startLen    = 12
	filterLen   = 8
	insnLen     = 8
	addressLen  = 128
	ifaceLen    = 12
	maxRequest  = startLen + filterLen + maxFilter*insnLen
	maxFilter   = 8192    // instructions, as rpcapd takes them
	maxReply    = 1 << 20 // a list of interfaces
	maxCaptured = 262144  // bytes of a frame
	versionMin  = 0
	versionMax  = 0
)

// byteOrderMagic is sent in the server's byte order.
const byteOrderMagic = 0xa1b2c3d4

// header stands before each message.
type header struct {
	version, kind uint8
	value         uint16
	length        uint32 // of what follows
}

func (h header) append(b []byte) []byte {
	b = append(b, h.version, h.kind)
	b = binary.BigEndian.AppendUint16(b, h.value)
	return binary.BigEndian.AppendUint32(b, h.length)
}

func parseHeader(b []byte) header {
	be := binary.BigEndian
	return header{version: b[0], kind: b[1], value: be.Uint16(b[2:]), length: be.Uint32(b[4:])}
}

// readMessage reads a message of at most max bytes behind its header. buf is used when it is long enough.
func readMessage(r io.Reader, buf []byte, most uint32) (header, []byte, error) {
	var hb [headerLen]byte
	if _, err := io.ReadFull(r, hb[:]); err != nil {
		return header{}, nil, err
	}
	h := parseHeader(hb[:])
	if h.length > most {
		return h, nil, fmt.Errorf("rpcap: message of type %d has %d bytes, at most %d are taken", h.kind, h.length, most)
	}
	if uint32(cap(buf)) < h.length {
		buf = make([]byte, h.length)
	}
	buf = buf[:h.length]
	if _, err := io.ReadFull(r, buf); err != nil {
		return h, nil, fmt.Errorf("rpcap: message of type %d: %w", h.kind, err)
	}
	return h, buf, nil
}

// message returns a message ready to be sent.
func message(kind uint8, value uint16, body []byte) []byte {
	return append(header{kind: kind, value: value, length: uint32(len(body))}.append(nil), body...)
}

// credentials are the body of an authentication request.
type credentials struct {
	kind           uint16 // authNull, authPassword
	user, password string
}

const (
	authNull     = 0
	authPassword = 1
)

func (c credentials) append(b []byte) []byte {
	be := binary.BigEndian
	b = be.AppendUint16(b, c.kind)
	b = be.AppendUint16(b, 0)
	b = be.AppendUint16(b, uint16(len(c.user)))
	b = be.AppendUint16(b, uint16(len(c.password)))
	return append(append(b, c.user...), c.password...)
}

func parseCredentials(b []byte) (credentials, error) {
	c := wire.NewCursor(b)
	a := credentials{kind: c.U16()}
	c.Skip(2)
	user, password := int(c.U16()), int(c.U16())
	if a.kind == authPassword {
		a.user, a.password = string(c.Bytes(user)), string(c.Bytes(password))
	}
	return a, c.Err()
}

// authReply is the body of the reply: the versions that are spoken, and the byte order.
func authReply() []byte {
	return binary.NativeEndian.AppendUint32([]byte{versionMin, versionMax, 0, 0}, byteOrderMagic)
}

// Interface is an interface of the remote host.
type Interface struct {
	Name, Description string
	Flags             uint32 // as pcap_findalldevs gives them
	Addresses         []Address
	Link              frame.LinkType // for the server; a client learns it by opening
}

// Address is an address of an interface with what belongs to it; 4 or 16 bytes each, or nil.
type Address struct{ Addr, Mask, Broadcast, Peer []byte }

// Families of addresses have the numbers that they have on Windows.
const (
	familyIPv4 = 2
	familyIPv6 = 23
)

// most of what a list of interfaces may hold, so that its lengths fit.
const maxText = 1<<16 - 1

func appendInterfaces(b []byte, list []Interface) []byte {
	be := binary.BigEndian
	for _, i := range list {
		name, description := i.Name[:min(len(i.Name), maxText)], i.Description[:min(len(i.Description), maxText)]
		b = be.AppendUint16(b, uint16(len(name)))
		b = be.AppendUint16(b, uint16(len(description)))
		b = be.AppendUint32(b, i.Flags)
		b = be.AppendUint16(b, uint16(len(i.Addresses)))
		b = append(b, 0, 0)
		b = append(append(b, name...), description...)
		for _, a := range i.Addresses {
			for _, x := range [][]byte{a.Addr, a.Mask, a.Broadcast, a.Peer} {
				b = appendAddress(b, x)
			}
		}
	}
	return b
}

func appendAddress(b, a []byte) []byte {
	at := len(b)
	b = append(b, make([]byte, addressLen)...)
	switch len(a) {
	case 4:
		binary.BigEndian.PutUint16(b[at:], familyIPv4)
		copy(b[at+4:], a)
	case 16:
		binary.BigEndian.PutUint16(b[at:], familyIPv6)
		copy(b[at+8:], a)
	}
	return b
}

func parseInterfaces(b []byte, n int) ([]Interface, error) {
	c := wire.NewCursor(b)
	var list []Interface
	for range n {
		name, description := int(c.U16()), int(c.U16())
		i := Interface{Flags: c.U32()}
		addresses := int(c.U16())
		c.Skip(2)
		i.Name, i.Description = string(c.Bytes(name)), string(c.Bytes(description))
		for range addresses {
			a := Address{parseAddress(c.Bytes(addressLen)), parseAddress(c.Bytes(addressLen)), parseAddress(c.Bytes(addressLen)), parseAddress(c.Bytes(addressLen))}
			if c.Err() != nil {
				break
			}
			i.Addresses = append(i.Addresses, a)
		}
		if err := c.Err(); err != nil {
			return list, fmt.Errorf("rpcap: interface %d of %d: %w", len(list)+1, n, err)
		}
		list = append(list, i)
	}
	return list, nil
}

func parseAddress(b []byte) []byte {
	if b == nil {
		return nil
	}
	switch binary.BigEndian.Uint16(b) {
	case familyIPv4:
		return append([]byte(nil), b[4:8]...)
	case familyIPv6:
		return append([]byte(nil), b[8:24]...)
	}
	return nil
}

// Flags of a request to start.
const (
	flagPromiscuous = 1
	flagDatagram    = 2
	flagServerOpens = 4
	flagInbound     = 8
	flagOutbound    = 16
)

// start is a request to start a capture.
type start struct {
	snapLen, timeoutMS uint32
	flags, port        uint16
	filter             []bpf.RawInstruction
}

func (s start) append(b []byte) []byte {
	be := binary.BigEndian
	b = be.AppendUint32(be.AppendUint32(b, s.snapLen), s.timeoutMS)
	b = be.AppendUint16(be.AppendUint16(b, s.flags), s.port)
	return appendFilter(b, s.filter)
}

func parseStart(b []byte) (s start, err error) {
	c := wire.NewCursor(b)
	s = start{snapLen: c.U32(), timeoutMS: c.U32(), flags: c.U16(), port: c.U16()}
	if err := c.Err(); err != nil {
		return start{}, fmt.Errorf("rpcap: start: %w", err)
	}
	s.filter, err = parseFilter(c.Rest())
	return s, err
}

const filterBPF = 1

func appendFilter(b []byte, filter []bpf.RawInstruction) []byte {
	be := binary.BigEndian
	b = be.AppendUint16(b, filterBPF)
	b = be.AppendUint16(b, 0)
	b = be.AppendUint32(b, uint32(len(filter)))
	for _, i := range filter {
		b = be.AppendUint16(b, i.Op)
		b = append(b, i.Jt, i.Jf)
		b = be.AppendUint32(b, i.K)
	}
	return b
}

var errFilterType = errors.New("rpcap: filter: only BPF programs are taken")

func parseFilter(b []byte) ([]bpf.RawInstruction, error) {
	c := wire.NewCursor(b)
	kind := c.U16()
	c.Skip(2)
	n := c.U32()
	switch {
	case c.Err() != nil:
		return nil, fmt.Errorf("rpcap: filter: %w", c.Err())
	case kind != filterBPF:
		return nil, errFilterType
	case n > maxFilter:
		return nil, fmt.Errorf("rpcap: filter: %d instructions, at most %d are taken", n, maxFilter)
	case int(n)*insnLen > c.Len():
		return nil, fmt.Errorf("rpcap: filter: %d instructions: %w", n, wire.ErrShort)
	}
	out := make([]bpf.RawInstruction, n)
	for i := range out {
		out[i] = bpf.RawInstruction{Op: c.U16(), Jt: c.U8(), Jf: c.U8(), K: c.U32()}
	}
	return out, nil
}

// Stats are figures of a capture since its start.
type Stats struct {
	Received         uint32 // frames that matched the filter
	InterfaceDropped uint32
	KernelDropped    uint32 // for want of room at the remote end
	Sent             uint32 // over the data connection
}

func (s Stats) append(b []byte) []byte {
	for _, n := range []uint32{s.Received, s.InterfaceDropped, s.KernelDropped, s.Sent} {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}

func parseStats(b []byte) (Stats, error) {
	c := wire.NewCursor(b)
	s := Stats{c.U32(), c.U32(), c.U32(), c.U32()}
	return s, c.Err()
}

// Sampling chooses some of the frames at the remote end.
type Sampling struct {
	Method SamplingMethod
	Value  uint32
}

// SamplingMethod is how frames are chosen.
type SamplingMethod uint8

// The methods.
const (
	SampleAll   SamplingMethod = 0
	SampleEvery SamplingMethod = 1 // one frame in so many
	SampleAfter SamplingMethod = 2 // the first frame after so many milliseconds
)

func (s Sampling) append(b []byte) []byte {
	return binary.BigEndian.AppendUint32(append(b, byte(s.Method), 0, 0, 0), s.Value)
}

func parseSampling(b []byte) (Sampling, error) {
	c := wire.NewCursor(b)
	s := Sampling{Method: SamplingMethod(c.U8())}
	c.Skip(3)
	s.Value = c.U32()
	switch {
	case c.Err() != nil:
		return s, fmt.Errorf("rpcap: sampling: %w", c.Err())
	case s.Method > SampleAfter:
		return s, fmt.Errorf("rpcap: sampling: method %d is not known", s.Method)
	}
	return s, nil
}

// Numbers of link types that differ on the wire, where libpcap's DLT_ values travel, from those of capture files.
const (
	dltRaw        = 12
	dltRawOpenBSD = 14
)

func linkToWire(l frame.LinkType) uint32 {
	if l == frame.LinkRaw {
		return dltRaw
	}
	return uint32(l)
}

func linkFromWire(n uint32) (frame.LinkType, error) {
	switch {
	case n == dltRaw || n == dltRawOpenBSD:
		return frame.LinkRaw, nil
	case n > 1<<16-1:
		return 0, fmt.Errorf("rpcap: link type %d is not known", n)
	}
	return frame.LinkType(n), nil
}
