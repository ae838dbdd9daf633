package listen

import (
	"encoding/binary"
	"io"
)

// framer finds IPFIX messages in a stream.
type framer struct {
	buf   []byte
	off   int  // start of what is not yet cut
	have  int  // bytes from there on
	begun bool // a message began with the last read: its time runs from then
}

// fill reads once, into room for at least one message more.
func (f *framer) fill(r io.Reader) error {
	n, err := r.Read(f.buf[f.off+f.have:])
	f.begun = f.have == 0 && n > 0
	f.have += n
	return err
}

// next returns the next whole message, nil when there is none; bad tells that the stream is no IPFIX.
func (f *framer) next() (msg []byte, bad bool) {
	size, ok := f.size()
	switch {
	case !ok:
		return nil, false
	case size < ipfixHeader:
		return nil, true
	case size > f.have:
		return nil, false
	}
	msg = f.buf[f.off : f.off+size]
	f.off, f.have = f.off+size, f.have-size
	return msg, false
}

// size returns the length of the message that begins here: 0 when it is no message; ok is false when too little is there.
func (f *framer) size() (n int, ok bool) {
	b := f.buf[f.off : f.off+f.have]
	if len(b) >= 2 && binary.BigEndian.Uint16(b) != ipfixVersion {
		return 0, true
	}
	if len(b) < 4 {
		return 0, false
	}
	return int(binary.BigEndian.Uint16(b[2:])), true
}

// ready reports whether next would return a message or a fault.
func (f *framer) ready() bool {
	size, ok := f.size()
	return ok && (size < ipfixHeader || size <= f.have)
}

// keep moves the begin of a message to the buffer's start and makes room for the rest of it. The message's own length says
// how much, so that a connection costs what it sends.
func (f *framer) keep() {
	f.begun = f.have > 0 && (f.begun || f.off > 0)
	copy(f.buf, f.buf[f.off:f.off+f.have])
	f.off = 0
	need := streamBufSize
	if size, ok := f.size(); ok {
		need = max(need, size)
	}
	if need > len(f.buf) {
		f.buf = append(make([]byte, 0, need), f.buf[:f.have]...)[:need]
	}
}
