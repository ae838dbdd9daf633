//go:build linux

// Command livegen sends UDP packets out of an interface at a steady rate, or as fast as it can, and says what each cost the sender:
// processor time of the sending thread, in which on virtual links all the work of the receiving end and of its taps is done.
package main

import (
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"crosstap/internal/netns"
)

// options are the flags.
type options struct {
	iface, space, dst string
	size, flows, rate int
	dur               time.Duration
	core              int
}

func main() {
	log.SetFlags(0)
	var o options
	flag.StringVar(&o.iface, "i", "eth0", "interface")
	flag.StringVar(&o.space, "netns", "", "file of its network namespace")
	flag.StringVar(&o.dst, "dst", "02:00:00:00:09:09", "MAC address to send to")
	flag.IntVar(&o.size, "size", 512, "length of frames with their check sequence; 0 for IMIX 7:4:1 of 64, 570 and 1518")
	flag.IntVar(&o.flows, "flows", 1000, "flows")
	flag.IntVar(&o.rate, "rate", 200000, "packets each second; 0 for as many as go")
	flag.DurationVar(&o.dur, "for", 2*time.Second, "how long")
	flag.IntVar(&o.core, "core", -1, "processor to send on")
	flag.Parse()
	r, err := o.run()
	if err != nil {
		log.Fatal("livegen: ", err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		log.Fatal("livegen: ", err)
	}
}

// result is what is written.
type result struct {
	Sent    uint64  `json:"sent"`
	Octets  uint64  `json:"octets"` // of frames without their check sequence
	Seconds float64 `json:"seconds"`
	NS      float64 `json:"ns_per_packet"` // processor time
}

const (
	ring     = 4096
	atOnce   = 64
	fcs      = 4
	headers  = 14 + 20 + 8
	smallest = 60
)

var imix = []int{64, 64, 64, 64, 64, 64, 64, 570, 570, 570, 570, 1518}

// packet returns the n-th frame.
func (o *options) packet(dst net.HardwareAddr, n int) []byte {
	size := o.size
	if size == 0 {
		size = imix[n%len(imix)]
	}
	b := make([]byte, max(size-fcs, smallest))
	be, flow := binary.BigEndian, n*7919%o.flows
	copy(b, dst)
	copy(b[6:], []byte{2, 0, 0, 0, 8, 8, 8, 0})
	ip := b[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, 17
	be.PutUint16(ip[2:], uint16(len(ip)))
	be.PutUint32(ip[12:], 0x0a000000|uint32(flow))
	be.PutUint32(ip[16:], 0x0a800001)
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(be.Uint16(ip[i:]))
	}
	sum = sum&0xffff + sum>>16
	be.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	udp := ip[20:]
	be.PutUint16(udp, uint16(1024+flow%50000))
	be.PutUint16(udp[2:], 5353)
	be.PutUint16(udp[4:], uint16(len(udp)))
	return b
}

type message struct {
	hdr unix.Msghdr
	len uint32
	_   uint32
}

func (o *options) run() (r result, err error) {
	dst, err := net.ParseMAC(o.dst)
	if err != nil {
		return r, err
	}
	var fd int
	if err := netns.Do(o.space, func() (err error) { fd, err = open(o.iface); return err }); err != nil {
		return r, err
	}
	defer unix.Close(fd)
	runtime.LockOSThread()
	if o.core >= 0 {
		var set unix.CPUSet
		set.Set(o.core)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return r, fmt.Errorf("processor %d: %w", o.core, err)
		}
	}
	iovs, messages, sizes := make([]unix.Iovec, ring), make([]message, ring), make([]uint64, ring)
	for i := range messages {
		b := o.packet(dst, i)
		iovs[i].Base = &b[0]
		iovs[i].SetLen(len(b))
		sizes[i] = uint64(len(b))
		messages[i].hdr.Iov = &iovs[i]
		messages[i].hdr.SetIovlen(1)
	}
	return o.send(fd, messages, sizes)
}

func open(name string) (int, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return 0, fmt.Errorf("interface %s: %w", name, err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
		return 0, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 8<<20)
	return fd, unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: i.Index})
}

// used is the processor time of this thread.
func used() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
	return time.Duration(ts.Nano())
}

func (o *options) send(fd int, messages []message, sizes []uint64) (r result, err error) {
	start, cpu := time.Now(), used()
	at := 0
	for {
		gone := time.Since(start)
		if gone >= o.dur {
			break
		}
		n := atOnce
		if o.rate > 0 {
			due := int(gone.Seconds()*float64(o.rate)) - int(r.Sent)
			if due <= 0 {
				time.Sleep(50 * time.Microsecond)
				continue
			}
			n = min(n, due)
		}
		n = min(n, len(messages)-at)
		done, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&messages[at])), uintptr(n), 0, 0, 0)
		if errno != 0 && errno != unix.ENOBUFS && errno != unix.EAGAIN {
			return r, fmt.Errorf("send: %w", errno)
		}
		if errno != 0 {
			continue
		}
		for i := range int(done) {
			r.Octets += sizes[at+i]
		}
		r.Sent += uint64(done)
		at = (at + int(done)) % len(messages)
	}
	r.Seconds = time.Since(start).Seconds()
	r.NS = float64(used()-cpu) / float64(max(r.Sent, 1))
	return r, nil
}
