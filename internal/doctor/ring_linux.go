package doctor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	ringBlock  = 1 << 16
	ringBlocks = 2
)

// tryRing sets a TPACKET_V3 ring with vnet headers up on the loopback interface, sends a datagram there and
// waits until the kernel hands a block over.
func tryRing() (err error) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V3); err != nil {
		return fmt.Errorf("TPACKET_V3: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		return fmt.Errorf("vnet headers: %w", err)
	}
	req := unix.TpacketReq3{Block_size: ringBlock, Block_nr: ringBlocks, Frame_size: 2048, Frame_nr: ringBlock * ringBlocks / 2048, Retire_blk_tov: 1}
	if err := unix.SetsockoptTpacketReq3(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return fmt.Errorf("ring: %w", err)
	}
	ring, err := unix.Mmap(fd, 0, ringBlock*ringBlocks, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map the ring: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Munmap(ring)) }()
	all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL)) // network order
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: lo.Index}); err != nil {
		return fmt.Errorf("bind to lo: %w", err)
	}
	return awaitBlock(fd, ring)
}

// awaitBlock sends datagrams to the discard port until a block belongs to user space, for at most a second.
func awaitBlock(fd int, ring []byte) error {
	conn, err := net.Dial("udp", "127.0.0.1:9")
	if err != nil {
		return err
	}
	defer conn.Close()
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		_, _ = conn.Write([]byte("crosstap doctor")) // refused once nobody listens: that is fine
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 50); err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("poll", err)
		}
		for i := range ringBlocks {
			block := (*unix.TpacketBlockDesc)(unsafe.Pointer(&ring[i*ringBlock]))
			header := (*unix.TpacketHdrV1)(unsafe.Pointer(&block.Hdr[0]))
			if header.Block_status&unix.TP_STATUS_USER != 0 && header.Num_pkts > 0 {
				return nil
			}
		}
	}
	return errors.New("no frame within 1 s on lo")
}
