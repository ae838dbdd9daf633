package capture

import (
	"encoding/binary"
	"unsafe"

	"crosstap/internal/frame"
)

// Offsets in a block (linux/if_packet.h: tpacket_block_desc). All fields are in the machine's byte order, as those of a header are.
const (
	blockStatus, blockPackets, blockFirst = 8, 12, 16

	statusUser     = 1 << 0
	statusVLAN     = 1 << 4
	statusVLANTPID = 1 << 6
)

// header is what stands before a packet (the same file: tpacket3_hdr and, behind it, sockaddr_ll).
type header struct {
	next, sec, nsec, snap, len, status uint32
	mac                                uint16
	_                                  [6]byte
	tci                                uint32
	tpid                               uint16
	_                                  [20]byte
	pktType                            uint8
	_                                  [9]byte
}

const hdrEnd = int(unsafe.Sizeof(header{}))

// vnetLen is the length of struct virtio_net_hdr (OASIS virtio 1.2, section 5.1.6) without its last field.
const vnetLen = 10

// vnetValid are the bits of its first byte that say nothing of the frame: that the checksum was found right (VIRTIO_NET_HDR_F_DATA_VALID).
var vnetValid = binary.NativeEndian.Uint64([]byte{2, 0, 0, 0, 0, 0, 0, 0})

// addressed is where a frame's addresses end, in the usual headers.
const addressed = 37

// entries is a walk from one frame of a block to the next.
type entries struct {
	r    *ring
	b    []byte // the block
	off  int
	left int // frames to come
	bad  int // frames that cannot be right, and those behind them

	touched byte // keeps the compiler from leaving the look ahead out
}

func (r *ring) entries(block int) entries {
	b := r.mem[block*r.blockSize : (block+1)*r.blockSize]
	ne := binary.NativeEndian
	return entries{r: r, b: b, left: int(ne.Uint32(b[blockPackets:])), off: int(ne.Uint32(b[blockFirst:]))}
}

// fill appends the next n frames to frames, or as many as there are.
func (e *entries) fill(frames []frame.Frame, n int) []frame.Frame {
	for n = min(n, e.left); n > 0; n-- {
		at := len(frames)
		if at < cap(frames) {
			frames = frames[:at+1]
		} else {
			frames = append(frames, frame.Frame{})
		}
		if !e.frame(&frames[at]) {
			e.left, e.bad = 0, e.left
			return frames[:at]
		}
		e.left--
	}
	return frames
}

// frame makes the next frame, in its place: what is put together elsewhere is waited for when it is copied. It reports false for one
// that cannot be right.
func (e *entries) frame(f *frame.Frame) bool {
	r, b, off := e.r, e.b, e.off
	if off < 0 || off+hdrEnd > len(b) {
		return false
	}
	h := (*header)(unsafe.Pointer(&b[off])) // one look at the bounds for all that is read of it
	mac, snap := int(h.mac), int(h.snap)
	if off+mac+snap > len(b) || mac < hdrEnd+vnetLen && r.vnet {
		return false
	}
	e.off = off + int(h.next)
	*f = frame.Frame{}
	f.Data = b[off+mac : off+mac+snap : off+mac+snap]
	f.OrigLen = int(h.len)
	f.TimeNS = int64(h.sec)*1e9 + int64(h.nsec)
	f.Point, f.Link, f.Dir = r.point, r.link, packetType(h.pktType)
	if r.vnet {
		v := (*[vnetLen]byte)(b[off+mac-vnetLen:])
		if binary.NativeEndian.Uint64(v[:])&^vnetValid != 0 || binary.NativeEndian.Uint16(v[8:]) != 0 {
			vnet(&f.VNet, v[:])
		}
	}
	if snap > addressed { // the memory arrives while the next headers are looked for
		e.touched ^= f.Data[addressed]
	}
	if h.status&statusVLAN != 0 {
		restoreTag(f, h, b[off:], mac)
	}
	return true
}

// vnet reads a virtio header. Inlined, its single bytes would keep the compiler from loading all of it at once.
//
//go:noinline
func vnet(v *frame.VNet, b []byte) {
	ne := binary.NativeEndian
	_ = b[vnetLen-1]
	v.Type, v.HdrLen, v.Segment = b[1], ne.Uint16(b[2:]), ne.Uint16(b[4:])
	v.NeedsCsum, v.CsumStart, v.CsumOffset = b[0]&1 != 0, ne.Uint16(b[6:]), ne.Uint16(b[8:])
}

// restoreTag puts the 802.1Q tag back that the kernel took out of the frame: the MAC addresses move 4
// bytes forward, over the end of the header. b begins with the header, and the frame is mac bytes behind that.
func restoreTag(f *frame.Frame, h *header, b []byte, mac int) {
	const macs, tagLen = 12, 4
	if f.Link != frame.LinkEthernet || len(f.Data) < macs {
		return
	}
	tpid := uint16(0x8100)
	if h.status&statusVLANTPID != 0 {
		tpid = h.tpid
	}
	start, end := mac-tagLen, mac+len(f.Data)
	copy(b[start:], b[mac:mac+macs])
	binary.BigEndian.PutUint16(b[start+macs:], tpid)
	binary.BigEndian.PutUint16(b[start+macs+2:], uint16(h.tci))
	f.Data = b[start:end:end]
	f.OrigLen += tagLen
	if f.VNet.NeedsCsum {
		f.VNet.CsumStart += tagLen
	}
	if f.VNet.HdrLen != 0 {
		f.VNet.HdrLen += tagLen
	}
}
