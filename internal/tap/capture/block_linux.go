package capture

import (
	"encoding/binary"

	"crosstap/internal/frame"
)

// Offsets in a block and in a packet's header (linux/if_packet.h: tpacket_block_desc, tpacket3_hdr and, behind
// it, sockaddr_ll). All fields are in the machine's byte order.
const (
	blockStatus, blockPackets, blockFirst = 8, 12, 16

	hdrNext, hdrSec, hdrNsec, hdrSnap, hdrLen, hdrStatus = 0, 4, 8, 12, 16, 20
	hdrMAC, hdrTCI, hdrTPID                              = 24, 32, 36
	hdrPktType                                           = 58
	hdrEnd                                               = 68

	statusUser     = 1 << 0
	statusVLAN     = 1 << 4
	statusVLANTPID = 1 << 6
)

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
	r, ne, off := e.r, binary.NativeEndian, e.off
	for n = min(n, e.left); n > 0; n-- {
		if off < 0 || off+hdrEnd > len(e.b) {
			e.left, e.bad = 0, e.left
			return frames
		}
		h := e.b[off:]
		mac, snap := int(ne.Uint16(h[hdrMAC:])), int(ne.Uint32(h[hdrSnap:]))
		if mac < hdrEnd+vnetLen && r.vnet || mac+snap > len(h) {
			e.left, e.bad = 0, e.left
			return frames
		}
		if len(frames) < cap(frames) {
			frames = frames[:len(frames)+1]
		} else {
			frames = append(frames, frame.Frame{})
		}
		f := &frames[len(frames)-1] // written in its place: what is put together elsewhere is waited for when it is copied
		*f = frame.Frame{}
		f.Data, f.OrigLen = h[mac:mac+snap:mac+snap], int(ne.Uint32(h[hdrLen:]))
		f.TimeNS = int64(ne.Uint32(h[hdrSec:]))*1e9 + int64(ne.Uint32(h[hdrNsec:]))
		f.Point, f.Link, f.Dir = r.point, r.link, packetType(h[hdrPktType])
		if r.vnet {
			if v := h[mac-vnetLen : mac]; ne.Uint64(v)&^vnetValid|uint64(ne.Uint16(v[8:])) != 0 {
				vnet(&f.VNet, v)
			}
		}
		if snap > addressed { // the memory arrives while the next headers are looked for
			e.touched ^= h[mac+addressed]
		}
		if status := ne.Uint32(h[hdrStatus:]); status&statusVLAN != 0 {
			restoreTag(f, h, mac, status)
		}
		off += int(ne.Uint32(h[hdrNext:]))
		e.left--
	}
	e.off = off
	return frames
}

// vnet reads a virtio header.
func vnet(v *frame.VNet, b []byte) {
	ne := binary.NativeEndian
	_ = b[vnetLen-1]
	v.Type, v.HdrLen, v.Segment = b[1], ne.Uint16(b[2:]), ne.Uint16(b[4:])
	v.NeedsCsum, v.CsumStart, v.CsumOffset = b[0]&1 != 0, ne.Uint16(b[6:]), ne.Uint16(b[8:])
}

// restoreTag puts the 802.1Q tag back that the kernel took out of the frame: the MAC addresses move 4
// bytes forward, over the end of the header.
func restoreTag(f *frame.Frame, h []byte, mac int, status uint32) {
	const macs, tagLen = 12, 4
	if f.Link != frame.LinkEthernet || len(f.Data) < macs {
		return
	}
	tpid := uint16(0x8100)
	if status&statusVLANTPID != 0 {
		tpid = binary.NativeEndian.Uint16(h[hdrTPID:])
	}
	tci := binary.NativeEndian.Uint16(h[hdrTCI:])
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		tci = binary.NativeEndian.Uint16(h[hdrTCI+2:]) // the low half of a 32-bit field
	}
	start, end := mac-tagLen, mac+len(f.Data)
	copy(h[start:], h[mac:mac+macs])
	binary.BigEndian.PutUint16(h[start+macs:], tpid)
	binary.BigEndian.PutUint16(h[start+macs+2:], tci)
	f.Data = h[start:end:end]
	f.OrigLen += tagLen
	if f.VNet.NeedsCsum {
		f.VNet.CsumStart += tagLen
	}
	if f.VNet.HdrLen != 0 {
		f.VNet.HdrLen += tagLen
	}
}
