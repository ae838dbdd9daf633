// Command mixedpcap writes the capture that the benchmark of capture files to flows reads: TCP and
// UDP in packets / 20 conversations, frame sizes in the IMIX ratio 7:4:1, half of the
// conversations inside VXLAN. The same arguments always give the same bytes.
//
//	mixedpcap [-packets N] [-seed N] [-plain] FILE
package main

import (
	"bufio"
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
)

const (
	tcp, udp  = 6, 17
	vxlanPort = 4789
	startUS   = 1_760_000_000 * 1_000_000 // microseconds since the Unix epoch
	stepUS    = 3
)

// conversation is one 5-tuple and the segment it is in.
type conversation struct {
	src, dst         uint32
	srcPort, dstPort uint16
	vni              uint32
	tunnelled        bool
}

func main() {
	packets := flag.Int("packets", 1_000_000, "number of packets")
	seed := flag.Uint64("seed", 11, "seed of the pseudo-random choices")
	plain := flag.Bool("plain", false, "no VXLAN")
	flag.Parse()
	if flag.NArg() != 1 || *packets < 1 {
		fmt.Fprintln(os.Stderr, "usage: mixedpcap [-packets N] [-seed N] [-plain] FILE")
		os.Exit(2)
	}
	if err := write(flag.Arg(0), *packets, *seed, *plain); err != nil {
		fmt.Fprintln(os.Stderr, "mixedpcap:", err)
		os.Exit(1)
	}
}

func write(path string, packets int, seed uint64, plain bool) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	w := bufio.NewWriterSize(f, 1<<20)
	head := make([]byte, 24)
	binary.LittleEndian.PutUint32(head[0:], 0xa1b2c3d4)
	binary.LittleEndian.PutUint16(head[4:], 2)
	binary.LittleEndian.PutUint16(head[6:], 4)
	binary.LittleEndian.PutUint32(head[16:], 262144)
	binary.LittleEndian.PutUint32(head[20:], 1)
	if _, err := w.Write(head); err != nil {
		return err
	}
	rnd := rand.New(rand.NewPCG(seed, 0))
	convs := conversations(rnd, max(1, packets/20), plain)
	var frame []byte
	for i := range packets {
		// Squaring makes some conversations busier than others.
		c := &convs[int(math.Pow(rnd.Float64(), 2)*float64(len(convs)))]
		frame = c.frame(frame[:0], payloadLen(rnd), uint32(i))
		us := uint64(startUS + i*stepUS)
		rec := head[:16]
		binary.LittleEndian.PutUint32(rec[0:], uint32(us/1_000_000))
		binary.LittleEndian.PutUint32(rec[4:], uint32(us%1_000_000))
		binary.LittleEndian.PutUint32(rec[8:], uint32(len(frame)))
		binary.LittleEndian.PutUint32(rec[12:], uint32(len(frame)))
		if _, err := w.Write(rec); err != nil {
			return err
		}
		if _, err := w.Write(frame); err != nil {
			return err
		}
	}
	return w.Flush()
}

func conversations(rnd *rand.Rand, n int, plain bool) []conversation {
	ports := [...]uint16{80, 443, 3306, 5432, 6379, 53}
	out := make([]conversation, n)
	for i := range out {
		c := &out[i]
		c.src = 10<<24 | 1<<16 + uint32(rnd.IntN(4000))
		c.dst = 10<<24 | 2<<16 + uint32(math.Pow(rnd.Float64(), 3)*2000)
		c.srcPort = uint16(32768 + rnd.IntN(28232))
		c.dstPort = ports[rnd.IntN(len(ports))]
		c.vni = uint32(5000 + rnd.IntN(40))
		c.tunnelled = !plain && (c.src+c.dst)&1 == 1
	}
	return out
}

// payloadLen draws 0, 500 or 1400 bytes in the ratio 7:4:1.
func payloadLen(rnd *rand.Rand) int {
	switch n := rnd.IntN(12); {
	case n < 7:
		return 0
	case n < 11:
		return 500
	}
	return 1400
}

// frame appends one Ethernet frame of the conversation.
func (c *conversation) frame(b []byte, payload int, seq uint32) []byte {
	if c.tunnelled {
		inner := c.ethernet(nil, payload, seq)
		b = ethernetHeader(b)
		b = ipv4(b, 0xc0a80001+c.src%64, 0xc0a80001+c.dst%64, udp, 16+len(inner))
		b = udpHeader(b, 49152+c.srcPort%16000, vxlanPort, 8+len(inner))
		b = append(b, 0x08, 0, 0, 0)
		b = binary.BigEndian.AppendUint32(b, c.vni<<8)
		return append(b, inner...)
	}
	return c.ethernet(b, payload, seq)
}

func (c *conversation) ethernet(b []byte, payload int, seq uint32) []byte {
	b = ethernetHeader(b)
	if c.dstPort == 53 {
		payload = min(payload, 200)
		b = ipv4(b, c.src, c.dst, udp, 8+payload)
		b = udpHeader(b, c.srcPort, c.dstPort, payload)
		return append(b, make([]byte, payload)...)
	}
	flags := byte(0x10)
	if payload > 0 {
		flags = 0x18
	}
	b = ipv4(b, c.src, c.dst, tcp, 20+payload)
	b = binary.BigEndian.AppendUint16(b, c.srcPort)
	b = binary.BigEndian.AppendUint16(b, c.dstPort)
	b = binary.BigEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint32(b, seq)
	b = append(b, 0x50, flags, 0x01, 0xf4, 0, 0, 0, 0)
	return append(b, make([]byte, payload)...)
}

func ethernetHeader(b []byte) []byte {
	return append(b, 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0)
}

func ipv4(b []byte, src, dst uint32, proto byte, body int) []byte {
	at := len(b)
	b = append(b, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(20+body))
	b = append(b, 0, 0, 0x40, 0, 64, proto, 0, 0)
	b = binary.BigEndian.AppendUint32(b, src)
	b = binary.BigEndian.AppendUint32(b, dst)
	var sum uint32
	for i := at; i < at+20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	sum = sum>>16 + sum&0xffff
	sum += sum >> 16
	binary.BigEndian.PutUint16(b[at+10:], ^uint16(sum))
	return b
}

func udpHeader(b []byte, src, dst uint16, body int) []byte {
	b = binary.BigEndian.AppendUint16(b, src)
	b = binary.BigEndian.AppendUint16(b, dst)
	b = binary.BigEndian.AppendUint16(b, uint16(8+body))
	return append(b, 0, 0)
}
