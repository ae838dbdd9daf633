package capture

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
	"crosstap/internal/netns"
)

// ring is one packet socket and the memory that it shares with the kernel: blocks that the kernel fills in turn and hands
// over whole.
type ring struct {
	name      string
	point     uint32
	fd        int // -1 after shut
	ifindex   int
	link      frame.LinkType
	vnet      bool // a virtio header stands before each frame
	loopback  bool
	mem       []byte
	blocks    int
	blockSize int
	next      int                  // block that is handed over next
	users     atomic.Int32         // of mem: the source, and each block that is out
	base      []bpf.RawInstruction // the filter, with the snap length
	governor  *governor            // of a governed source, nil where the kernel does not take it
	refused   error                // why not
	off       bool                 // the socket is off its interface

	mu   sync.Mutex
	idle []*loan
}

// loan is one block that is out, and its frames.
type loan struct {
	ring   *ring
	block  int
	frames []frame.Frame
	refs   atomic.Int32
	free   func() // bound once, so that releasing does not allocate
}

// openRing opens a ring on an interface. Frames arrive from its last step on, none before the filter is in place.
func openRing(space *netns.Space, cfg *LiveConfig, name string, point uint32) (*ring, error) {
	r := &ring{name: name, point: point, fd: -1}
	err := space.Do(func() (err error) {
		r.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return permission(err)
		}
		return r.find()
	})
	if err == nil {
		err = r.setUp(cfg)
	}
	r.users.Store(1)
	if err != nil {
		r.shut()
		return nil, err
	}
	return r, nil
}

func permission(err error) error {
	if err == unix.EPERM || err == unix.EACCES {
		return fmt.Errorf("packet socket: %w: capturing needs CAP_NET_RAW: run as root, or once \"setcap cap_net_raw+ep\" on the program",
			os.ErrPermission)
	}
	return fmt.Errorf("packet socket: %w", err)
}

// find looks the interface up and learns its link type.
func (r *ring) find() error {
	req, err := unix.NewIfreq(r.name)
	if err != nil {
		return fmt.Errorf("interface %q: %w", r.name, err)
	}
	if err := unix.IoctlIfreq(r.fd, unix.SIOCGIFINDEX, req); err != nil {
		return unknownInterface(r.name)
	}
	r.ifindex = int(req.Uint32())
	if err := unix.IoctlIfreq(r.fd, unix.SIOCGIFHWADDR, req); err != nil {
		return fmt.Errorf("interface %q: %w", r.name, err)
	}
	arphrd := req.Uint16() // sa_family of ifr_hwaddr
	r.loopback = arphrd == unix.ARPHRD_LOOPBACK
	switch arphrd {
	case unix.ARPHRD_ETHER, unix.ARPHRD_LOOPBACK:
		r.link = frame.LinkEthernet
	case unix.ARPHRD_NONE, unix.ARPHRD_RAWIP, unix.ARPHRD_TUNNEL, unix.ARPHRD_TUNNEL6, unix.ARPHRD_SIT:
		r.link = frame.LinkRaw
	default:
		return fmt.Errorf("interface %q: hardware type %d is neither Ethernet nor bare IP", r.name, arphrd)
	}
	return nil
}

// setUp makes the ring and binds the socket.
func (r *ring) setUp(cfg *LiveConfig) error {
	fail := func(what string, err error) error { return fmt.Errorf("interface %q: %s: %w", r.name, what, err) }
	if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V3); err != nil {
		return fail("no TPACKET_V3 ring (Linux 3.2 or newer)", err)
	}
	r.vnet = unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1) == nil
	err := r.allocate(cfg)
	if err == unix.EINVAL && r.vnet { // kernels before 4.6 refuse the two together
		r.vnet = false
		if err = unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 0); err == nil {
			err = r.allocate(cfg)
		}
	}
	if err != nil {
		return fail(fmt.Sprintf("ring of %d bytes", cfg.RingBytes), err)
	}
	if err := r.filter(cfg); err != nil {
		return fail("filter", err)
	}
	if cfg.IngressOnly || r.loopback { // what leaves through the loopback interface comes in there at once
		if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil && cfg.IngressOnly {
			return fail("ingress only (Linux 4.20 or newer)", err)
		}
	}
	if cfg.Promiscuous {
		mreq := unix.PacketMreq{Ifindex: int32(r.ifindex), Type: unix.PACKET_MR_PROMISC}
		if err := unix.SetsockoptPacketMreq(r.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &mreq); err != nil {
			return fail("promiscuous mode", err)
		}
	}
	to := unix.SockaddrLinklayer{Protocol: allProtocols(), Ifindex: r.ifindex}
	if err := unix.Bind(r.fd, &to); err != nil {
		return fail("bind", err)
	}
	return nil
}

// allProtocols is ETH_P_ALL in network order.
func allProtocols() uint16 {
	all := uint16(unix.ETH_P_ALL)
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		return all
	}
	return all<<8 | all>>8
}

// allocate asks the kernel for the ring's memory and maps it.
func (r *ring) allocate(cfg *LiveConfig) error {
	parts, most, timeout := 64, maxBlk, blockTimeout
	if cfg.inPlace {
		parts, most, timeout = 16, maxBlkInPlace, blockTimeoutInPlace
	}
	r.blockSize = min(max(cfg.RingBytes/parts, minBlock), most) &^ (os.Getpagesize() - 1)
	r.blocks = cfg.RingBytes / r.blockSize
	req := unix.TpacketReq3{
		Block_size: uint32(r.blockSize), Block_nr: uint32(r.blocks),
		Frame_size: 2048, Frame_nr: uint32(r.blocks * (r.blockSize / 2048)),
		Retire_blk_tov: uint32(timeout.Milliseconds()),
	}
	if err := unix.SetsockoptTpacketReq3(r.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return err
	}
	var err error
	r.mem, err = unix.Mmap(r.fd, 0, r.blocks*r.blockSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	return err
}

const retConstant = 0x06 // BPF_RET | BPF_K

// program returns the filter with the snap length worked in: no frame keeps more than that.
func program(filter []bpf.RawInstruction, snapLen int) []bpf.RawInstruction {
	if len(filter) == 0 {
		if snapLen == 0 {
			return nil
		}
		return []bpf.RawInstruction{{Op: retConstant, K: uint32(snapLen)}}
	}
	out := append([]bpf.RawInstruction(nil), filter...)
	for i := range out {
		if snapLen > 0 && out[i].Op == retConstant {
			out[i].K = min(out[i].K, uint32(snapLen))
		}
	}
	return out
}

// filter puts the filter of the interface's link type in place.
func (r *ring) filter(cfg *LiveConfig) (err error) {
	var filter []bpf.RawInstruction
	if cfg.Filter != nil {
		if filter, err = cfg.Filter(r.link); err != nil {
			return err
		}
	}
	const most = 4096 // BPF_MAXINSNS
	if len(filter) > most {
		return fmt.Errorf("%d instructions: the kernel takes %d", len(filter), most)
	}
	r.base = program(filter, cfg.SnapLen)
	if cfg.Govern != nil {
		if r.refused = r.govern(cfg.Govern); r.refused == nil {
			return nil
		}
	}
	return r.attach(r.base)
}

func (r *ring) attach(filter []bpf.RawInstruction) error {
	if len(filter) == 0 {
		return nil
	}
	code := make([]unix.SockFilter, len(filter))
	for i, f := range filter {
		code[i] = unix.SockFilter{Code: f.Op, Jt: f.Jt, Jf: f.Jf, K: f.K}
	}
	return unix.SetsockoptSockFprog(r.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]})
}

// stop makes the kernel pass all further frames over.
func (r *ring) stop() {
	if r.fd >= 0 {
		_ = r.attach([]bpf.RawInstruction{{Op: 0x06}})
	}
}

// attached reports whether the interface that the socket is bound to is still there.
func (r *ring) attached() bool {
	sa, err := unix.Getsockname(r.fd)
	if err != nil {
		return false
	}
	ll, ok := sa.(*unix.SockaddrLinklayer)
	return ok && ll.Ifindex == r.ifindex
}

func (r *ring) status(block int) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&r.mem[block*r.blockSize+blockStatus]))
}

// ready reports whether the kernel has handed the next block over.
func (r *ring) ready() bool {
	return r.fd >= 0 && r.status(r.next).Load()&statusUser != 0
}

// crowded reports whether three quarters of the ring wait to be read.
func (r *ring) crowded() bool {
	return r.status((r.next+r.blocks*3/4)%r.blocks).Load()&statusUser != 0
}

// take lends the next block out, held once by the caller.
func (r *ring) take() *loan {
	r.mu.Lock()
	var l *loan
	if n := len(r.idle); n > 0 {
		l, r.idle = r.idle[n-1], r.idle[:n-1]
	}
	r.mu.Unlock()
	if l == nil {
		l = &loan{ring: r}
		l.free = l.release
	}
	l.block = r.next
	l.refs.Store(1)
	r.users.Add(1)
	r.next = (r.next + 1) % r.blocks
	return l
}

// release gives the block back to the kernel when its last batch is done.
func (l *loan) release() {
	if l.refs.Add(-1) != 0 {
		return
	}
	r := l.ring
	r.status(l.block).Store(0)
	r.mu.Lock()
	r.idle = append(r.idle, l)
	r.mu.Unlock()
	r.done()
}

// done gives up one use of the ring's memory.
func (r *ring) done() {
	if r.users.Add(-1) == 0 && r.mem != nil {
		_ = unix.Munmap(r.mem)
	}
}

// shut closes the socket; the memory stays until the last block that is out comes back.
func (r *ring) shut() {
	if r.fd < 0 {
		return
	}
	_ = unix.Close(r.fd)
	r.fd = -1
	if r.governor != nil {
		r.governor.close()
		r.governor = nil
	}
	r.done()
}
