package capture

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
)

// Sizes of a block: so many packets in a call of recvmmsg(2), each of at most the largest datagram. Only as much of the memory is
// touched as packets are long.
const (
	blockMessages = 64
	packetRoom    = 1 << 16
	controlRoom   = 64
)

// packetBlock is what one call of recvmmsg fills, and the frames in it.
type packetBlock struct {
	pool    *packets
	hdrs    [blockMessages]mmsghdr
	iovs    [blockMessages]unix.Iovec
	names   [blockMessages]unix.RawSockaddrInet6 // wide enough for IPv4
	control [blockMessages][controlRoom]byte
	mem     []byte
	frames  []frame.Frame
	free    func() // bound once, so that releasing does not allocate
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [(8 - (unsafe.Sizeof(unix.Msghdr{})+4)%8) % 8]byte
}

func newPacketBlock(pool *packets) *packetBlock {
	p := &packetBlock{pool: pool, mem: make([]byte, blockMessages*packetRoom), frames: make([]frame.Frame, 0, blockMessages)}
	p.free = func() { pool.put(p) }
	for i := range p.hdrs {
		h := &p.hdrs[i].hdr
		p.iovs[i].Base = &p.mem[i*packetRoom]
		p.iovs[i].SetLen(packetRoom)
		h.Iov, h.Name, h.Control = &p.iovs[i], (*byte)(unsafe.Pointer(&p.names[i])), &p.control[i][0]
		h.SetIovlen(1)
	}
	return p
}

// receive reads what is there without waiting, 0 when nothing is.
func (p *packetBlock) receive(fd int) (int, error) {
	for i := range p.hdrs {
		h := &p.hdrs[i].hdr
		h.Namelen, h.Flags = uint32(unsafe.Sizeof(p.names[i])), 0
		h.SetControllen(controlRoom)
	}
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&p.hdrs[0])), blockMessages, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EAGAIN:
			return 0, nil
		case unix.EINTR, unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ENOBUFS, unix.ENOMEM, unix.ENETDOWN:
			continue // an error of an earlier packet; reading it clears it
		default:
			return 0, fmt.Errorf("receive: %w", errno)
		}
	}
}

func (p *packetBlock) data(i int) []byte {
	n := i * packetRoom
	end := n + int(p.hdrs[i].len)
	return p.mem[n:end:end]
}

// from returns the sender of packet i.
func (p *packetBlock) from(i int) netip.Addr {
	raw := &p.names[i]
	if raw.Family == unix.AF_INET {
		return netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(raw)).Addr)
	}
	return netip.AddrFrom16(raw.Addr).Unmap()
}

// meta reads the control messages of packet i: the time of its receipt into now, and the kernel's counter of drops, which is there from
// the first drop on.
func (p *packetBlock) meta(i int, now *int64) (drops uint32, ok bool) {
	b := p.control[i][:min(int(p.hdrs[i].hdr.Controllen), controlRoom)]
	for len(b) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		n := int(h.Len)
		if n < unix.SizeofCmsghdr || n > len(b) {
			break
		}
		data := b[unix.SizeofCmsghdr:n]
		switch {
		case h.Level != unix.SOL_SOCKET:
		case h.Type == unix.SO_RXQ_OVFL && len(data) >= 4:
			drops, ok = binary.NativeEndian.Uint32(data), true
		case h.Type == unix.SCM_TIMESTAMPNS && len(data) >= int(unsafe.Sizeof(unix.Timespec{})):
			ts := (*unix.Timespec)(unsafe.Pointer(&data[0]))
			*now = ts.Nano()
		}
		b = b[min(len(b), unix.CmsgSpace(n-unix.SizeofCmsghdr)):]
	}
	return drops, ok
}

// packets lends blocks and takes them back; no more than maxBlocks are out.
type packets struct {
	mu   sync.Mutex
	idle []*packetBlock
	made int
	back chan struct{} // a block has come back
}

const maxBlocks = 8

// get waits for a block; nil when ctx ends before there is one.
func (p *packets) get(ctx context.Context) *packetBlock {
	for {
		p.mu.Lock()
		if p.back == nil {
			p.back = make(chan struct{}, 1)
		}
		if n := len(p.idle); n > 0 {
			b := p.idle[n-1]
			p.idle = p.idle[:n-1]
			p.mu.Unlock()
			return b
		}
		if p.made < maxBlocks {
			p.made++
			p.mu.Unlock()
			return newPacketBlock(p)
		}
		p.mu.Unlock()
		select {
		case <-p.back:
		case <-ctx.Done():
			return nil
		}
	}
}

func (p *packets) put(b *packetBlock) {
	p.mu.Lock()
	p.idle = append(p.idle, b)
	p.mu.Unlock()
	select {
	case p.back <- struct{}{}:
	default:
	}
}
