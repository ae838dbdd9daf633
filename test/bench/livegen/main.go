//go:build linux

// Command livegen sends UDP packets out of an interface at a steady rate, or as fast as it can, and says what each cost the sender:
// processor time of the sending thread, in which on virtual links all the work of the receiving end and of its taps is done.
//
// With -beside it sends to a second network namespace in turn, a slice of packets to each, and says what both cost and how much they differ: what
// the machine does besides falls on both alike. With -hook it sends nothing, but has an empty program at the TCX hooks of an interface until it is ended, with -end one that
// drops everything.
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
	beside, hook, end string
	size, flows, rate int
	dur, slice        time.Duration
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
	flag.StringVar(&o.beside, "beside", "", "file of a second network namespace, to send from in turn")
	flag.DurationVar(&o.slice, "slice", 10*time.Millisecond, "how long in each of the two")
	flag.StringVar(&o.hook, "hook", "", "interface to put an empty program at, instead of sending")
	flag.StringVar(&o.end, "end", "", "interface at which all packets end, instead of sending")
	flag.Parse()
	if o.hook != "" || o.end != "" {
		name, verdict := o.hook, int32(goesOn)
		if o.end != "" {
			name, verdict = o.end, ends
		}
		if err := hook(name, verdict); err != nil {
			log.Fatal("livegen: ", err)
		}
		return
	}
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

	Beside *beside `json:"beside,omitempty"`
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
	ways := []*way{{}}
	spaces := []string{o.space}
	if o.beside != "" {
		ways, spaces = append(ways, &way{}), append(spaces, o.beside)
	}
	for i, space := range spaces {
		if err := netns.Do(space, func() (err error) { ways[i].fd, err = open(o.iface); return err }); err != nil {
			return r, err
		}
		defer unix.Close(ways[i].fd)
	}
	runtime.LockOSThread()
	if o.core >= 0 {
		var set unix.CPUSet
		set.Set(o.core)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return r, fmt.Errorf("processor %d: %w", o.core, err)
		}
	}
	n := max(ring, (o.flows+atOnce-1)/atOnce*atOnce) // a packet of each flow at least
	iovs, messages, sizes := make([]unix.Iovec, n), make([]message, n), make([]uint64, n)
	for i := range messages {
		b := o.packet(dst, i)
		iovs[i].Base = &b[0]
		iovs[i].SetLen(len(b))
		sizes[i] = uint64(len(b))
		messages[i].hdr.Iov = &iovs[i]
		messages[i].hdr.SetIovlen(1)
	}
	for _, w := range ways {
		w.messages, w.sizes = messages, sizes
	}
	if len(ways) == 2 {
		return o.alternate(ways[0], ways[1])
	}
	w := ways[0]
	start := time.Now()
	if err := o.send(w, o.dur); err != nil {
		return r, err
	}
	return w.result(time.Since(start)), nil
}

// way is where packets go out, and what has gone out there.
type way struct {
	fd       int
	messages []message
	sizes    []uint64
	at       int
	sent     uint64
	octets   uint64
	cpu      time.Duration
}

func (w *way) result(took time.Duration) result {
	return result{Sent: w.sent, Octets: w.octets, Seconds: took.Seconds(), NS: float64(w.cpu) / float64(max(w.sent, 1))}
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

// send sends for a while.
func (o *options) send(w *way, dur time.Duration) error {
	start, cpu, sent := time.Now(), used(), 0
	defer func() { w.cpu += used() - cpu }()
	for {
		gone := time.Since(start)
		if gone >= dur {
			return nil
		}
		n := atOnce
		if o.rate > 0 {
			due := int(gone.Seconds()*float64(o.rate)) - sent
			if due <= 0 {
				time.Sleep(50 * time.Microsecond)
				continue
			}
			n = min(n, due)
		}
		n = min(n, len(w.messages)-w.at)
		done, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(w.fd), uintptr(unsafe.Pointer(&w.messages[w.at])), uintptr(n), 0, 0, 0)
		if errno != 0 && errno != unix.ENOBUFS && errno != unix.EAGAIN {
			return fmt.Errorf("send: %w", errno)
		}
		if errno != 0 {
			continue
		}
		for i := range int(done) {
			w.octets += w.sizes[w.at+i]
		}
		sent += int(done)
		w.sent += uint64(done)
		w.at = (w.at + int(done)) % len(w.messages)
	}
}
