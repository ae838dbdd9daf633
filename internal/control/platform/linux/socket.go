//go:build linux

package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Socket sizes. A dump of thousands of filters must find room while it is read.
const (
	receiveBytes = 4 << 20
	chunkBytes   = 256 << 10
	answerWait   = 10 // seconds
)

// socket is a rtnetlink socket in the platform's namespace. Its methods are safe for concurrent use.
type socket struct {
	mu  sync.Mutex
	fd  int
	seq uint32
	buf []byte
}

// openSocket opens a socket in the namespace of the present thread.
func openSocket() (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1) // kernels before 4.12 have none
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBytes) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBytes)
	}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: answerWait})
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netlink: %w", err)
	}
	return &socket{fd: fd, buf: make([]byte, chunkBytes)}, nil
}

func (s *socket) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd >= 0 {
		unix.Close(s.fd)
		s.fd = -1
	}
}

// request is a message to the kernel without its sequence number.
type request struct {
	kind  uint16
	flags uint16
	parts []nl.NetlinkRequestData
	about string // for errors
}

func (r *request) bytes(seq uint32) []byte {
	m := nl.NetlinkRequest{NlMsghdr: unix.NlMsghdr{Type: r.kind, Flags: unix.NLM_F_REQUEST | r.flags, Seq: seq}, Data: r.parts}
	b := m.Serialize()
	for len(b)%unix.NLMSG_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

// do sends requests in one system call, so that a process which is killed has done all of them or none, and waits for every answer.
// The kernel goes on after one that fails; the error is of the first.
func (s *socket) do(all ...*request) error {
	if len(all) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []byte
	about := map[uint32]string{}
	for _, r := range all {
		s.seq++
		r.flags |= unix.NLM_F_ACK
		out = append(out, r.bytes(s.seq)...)
		about[s.seq] = r.about
	}
	if err := unix.Sendto(s.fd, out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	var first error
	for len(about) > 0 {
		err := s.receive(func(m syscall.NetlinkMessage) error {
			what, ours := about[m.Header.Seq]
			if !ours || m.Header.Type != unix.NLMSG_ERROR {
				return nil
			}
			delete(about, m.Header.Seq)
			if err := refusal(m); err != nil && first == nil {
				first = fmt.Errorf("%s: %w", what, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return first
}

// errDone ends an exchange.
var errDone = errors.New("done")

// dump asks for a list and gives each message's payload to f, borrowed until f returns.
func (s *socket) dump(r *request, f func(b []byte) error) error {
	r.flags |= unix.NLM_F_DUMP
	return s.exchange(r, f)
}

// ask sends a request whose answer is one message, and gives its payload to f, borrowed until f returns.
func (s *socket) ask(r *request, f func(b []byte)) error {
	r.flags |= unix.NLM_F_ACK
	return s.exchange(r, func(b []byte) error { f(b); return nil })
}

// exchange sends a request and gives the payload of each message of its answer to f, until the kernel says that it is at the end.
func (s *socket) exchange(r *request, f func(b []byte) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	if err := unix.Sendto(s.fd, r.bytes(s.seq), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	for {
		err := s.receive(func(m syscall.NetlinkMessage) error {
			switch {
			case m.Header.Seq != s.seq:
				return nil
			case m.Header.Type == unix.NLMSG_DONE:
				return errDone
			case m.Header.Type == unix.NLMSG_ERROR:
				if err := refusal(m); err != nil {
					return fmt.Errorf("%s: %w", r.about, err)
				}
				return errDone
			}
			return f(m.Data)
		})
		if errors.Is(err, errDone) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// receive reads one datagram of messages.
func (s *socket) receive(f func(syscall.NetlinkMessage) error) error {
	n, _, err := unix.Recvfrom(s.fd, s.buf, 0)
	for err == unix.EINTR {
		n, _, err = unix.Recvfrom(s.fd, s.buf, 0)
	}
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	messages, err := syscall.ParseNetlinkMessage(s.buf[:n])
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	var first error
	for _, m := range messages {
		if err := f(m); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// kernelError is an errno with the kernel's own words.
type kernelError struct {
	errno unix.Errno
	text  string
}

func (e *kernelError) Error() string {
	if e.text == "" {
		return e.errno.Error()
	}
	return e.errno.Error() + " (" + e.text + ")"
}

func (e *kernelError) Unwrap() error { return e.errno }

// refusal reads an answer of type NLMSG_ERROR: nil for success. Behind the error stands the header of what was asked (with
// NLM_F_CAPPED alone, else all of it), then the attributes of the extended answer: 1 is its text.
func refusal(m syscall.NetlinkMessage) error {
	const capped, attributes = 0x100, 0x200
	if len(m.Data) < 4 {
		return errors.New("netlink: answer cut short")
	}
	code := int32(binary.NativeEndian.Uint32(m.Data))
	if code == 0 {
		return nil
	}
	e := &kernelError{errno: unix.Errno(-code)}
	if m.Header.Flags&attributes == 0 || len(m.Data) < 4+unix.SizeofNlMsghdr {
		return e
	}
	skip := 4 + unix.SizeofNlMsghdr
	if m.Header.Flags&capped == 0 {
		skip = 4 + (int(binary.NativeEndian.Uint32(m.Data[4:]))+3)&^3
	}
	if skip > len(m.Data) {
		return e
	}
	for _, a := range attrs(m.Data[skip:]) {
		if a.kind == 1 {
			e.text = strings.TrimRight(string(a.value), "\x00")
		}
	}
	return e
}

// attr is one attribute of a message, borrowed from it.
type attr struct {
	kind  uint16 // without its flags
	value []byte
}

// attrs splits attributes (netlink(7)); what is not well-formed ends the list.
func attrs(b []byte) (out []attr) {
	const headerLen, flags = 4, 0xc000
	for len(b) >= headerLen {
		n, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if n < headerLen || n > len(b) {
			return out
		}
		out = append(out, attr{kind &^ flags, b[headerLen:n]})
		b = b[min((n+3)&^3, len(b)):]
	}
	return out
}

// find returns the value of the first attribute of a kind.
func find(all []attr, kind uint16) ([]byte, bool) {
	for _, a := range all {
		if a.kind == kind {
			return a.value, true
		}
	}
	return nil, false
}

func text(b []byte) string { return strings.TrimRight(string(b), "\x00") }
