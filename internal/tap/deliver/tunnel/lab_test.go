package tunnel

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
	"crosstap/internal/ledger"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// pair is a host that sends and a tool that receives: 10.7.0.1 and fd07::1, 10.7.0.9 and fd07::9.
type pair struct {
	t          *testing.T
	host, tool *testns.Space
	log        *logText
}

type logText struct{ strings.Builder }

const quiet = "sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.dad_transmits=0 net.ipv6.conf.default.router_solicitations=0"

func newPair(t *testing.T, mtu int) *pair {
	t.Helper()
	p := &pair{t, testns.New(t), testns.New(t), &logText{}}
	for _, x := range []*testns.Space{p.host, p.tool} {
		x.Sh(quiet)
	}
	p.host.Sh(fmt.Sprintf(`ip link add up0 mtu %[1]d type veth peer name eth0 mtu %[1]d netns NS; ip link set up0 up
		ip addr add 10.7.0.1/24 dev up0; ip addr add fd07::1/64 dev up0 nodad`, mtu), p.tool)
	p.tool.Sh("ip link set eth0 up; ip addr add 10.7.0.9/24 dev eth0; ip addr add fd07::9/64 dev eth0 nodad")
	p.host.Sh(testkit.Tool(t, "ethtool") + " -K up0 tx off tso off gso off") // checksums as on a wire
	p.host.Up("up0")
	p.host.Reach("10.7.0.9", "fd07::9")
	return p
}

// sink returns an opened sink that sends from the host.
func (p *pair) sink(url string, change ...func(*Config)) *Sink {
	p.t.Helper()
	s, err := p.try(url, change...)
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

func (p *pair) try(url string, change ...func(*Config)) (*Sink, error) {
	p.t.Helper()
	target, err := Parse(url)
	if err != nil {
		p.t.Fatal(err)
	}
	target.NetNS = p.host.Path()
	c := Config{Target: target, Log: slog.New(slog.NewTextHandler(p.log, nil))}
	for _, f := range change {
		f(&c)
	}
	s, err := New(c)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(s.Close)
	return s, s.Open(context.Background())
}

// run sends frames to the end, and checks the books.
func run(t *testing.T, s *Sink, frames []frame.Frame) ledger.Statement {
	t.Helper()
	in := make(chan frame.Batch, 1)
	done := make(chan error, 1)
	go func() { done <- s.Run(context.Background(), in) }()
	for part := range slices.Chunk(frames, 32) {
		in <- frame.Batch{Frames: part}
		time.Sleep(time.Millisecond) // the receivers share processors with other tests
	}
	close(in)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	st := s.Book().Read()
	if err := st.Balance(); err != nil || st.Held != 0 {
		t.Errorf("%+v: %v", st, err)
	}
	return st
}

func dropped(st ledger.Statement) string {
	var all []string
	for _, d := range st.Dropped {
		if d.N > 0 {
			all = append(all, fmt.Sprint(d.N, " ", d.Reason))
		}
	}
	return strings.Join(all, ", ")
}

// dump has tcpdump write what comes in through an interface, until the function that it returns is called, which waits for n frames.
func dump(t *testing.T, in *testns.Space, iface, path string, args ...string) (stop func(n int)) {
	t.Helper()
	end := in.Dump(testkit.Tool(t, "tcpdump"), path, append([]string{"-i", iface, "-Q", "in", "-p", "-B", "16384"}, args...)...)
	return func(n int) {
		waitFrames(t, path, n)
		end()
	}
}

// waitFrames returns when a file has n frames, and when it has waited long enough.
func waitFrames(t *testing.T, path string, n int) {
	t.Helper()
	for end := time.Now().Add(patienceOfTests); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if len(pcapOrder(t, path)) >= n {
			return
		}
	}
}

const patienceOfTests = time.Minute

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// listen makes the tool listen, so that it does not answer copies by ICMP: on a UDP port, or for GRE with port 0.
func (p *pair) listen(port int) {
	p.t.Helper()
	must(p.t, p.tool.Do(func() error {
		if port == 0 {
			for _, f := range []int{unix.AF_INET, unix.AF_INET6} {
				fd, err := unix.Socket(f, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_GRE)
				if err != nil {
					return err
				}
				p.t.Cleanup(func() { unix.Close(fd) })
			}
			return nil
		}
		c, err := net.ListenUDP("udp", &net.UDPAddr{Port: port})
		if err == nil {
			p.t.Cleanup(func() { c.Close() })
		}
		return err
	}))
}

// tshark returns what it reads in the packets of a capture: for each the values of fields.
func tshark(t *testing.T, path string, fields ...string) (all []map[string]string) {
	t.Helper()
	args := []string{"-r", path, "-n", "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-T", "fields", "-E", "occurrence=a", "-E", "separator=|"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	out, err := exec.Command(testkit.Tool(t, "tshark"), args...).Output()
	must(t, err)
	for l := range strings.Lines(string(out)) {
		m := map[string]string{}
		for i, v := range strings.Split(strings.TrimSuffix(l, "\n"), "|") {
			m[fields[i]] = v
		}
		all = append(all, m)
	}
	return all
}

// pcapFrames returns the bytes of the frames of a pcap file as hex, sorted.
func pcapFrames(t *testing.T, path string) []string {
	t.Helper()
	all := pcapOrder(t, path)
	slices.Sort(all)
	return all
}

// pcapOrder returns the bytes of the frames of a pcap file as hex. It reads what is needed of the format without our reader.
func pcapOrder(t *testing.T, path string) (all []string) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	for b = b[min(24, len(b)):]; len(b) >= 16; {
		n := int(binary.LittleEndian.Uint32(b[8:]))
		if 16+n > len(b) {
			break
		}
		all = append(all, hex.EncodeToString(b[16:16+n]))
		b = b[16+n:]
	}
	return all
}

func hexes(frames []frame.Frame) (all []string) {
	for i := range frames {
		all = append(all, hex.EncodeToString(frames[i].Data))
	}
	slices.Sort(all)
	return all
}

// ethernet returns a frame with an IPv4 datagram of UDP from port 1000+n to 9; tag is the TCI of an 802.1Q tag, 0 for none. Its checksums are right.
func ethernet(n, size int, tci uint16) frame.Frame {
	b := []byte{0x02, 0xaa, 0, 0, 0, 2, 0x02, 0xaa, 0, 0, 0, 1}
	if tci != 0 {
		b = append(b, 0x81, 0, byte(tci>>8), byte(tci))
	}
	b = append(b, 8, 0)
	at := len(b)
	size = max(size, at+28)
	b = append(b, 0x45, 0, 0, 0, byte(n>>8), byte(n), 0x40, 0, 64, 17, 0, 0, 192, 168, 1, 10, 192, 168, 1, 20)
	binary.BigEndian.PutUint16(b[at+2:], uint16(size-at))
	binary.BigEndian.PutUint16(b[at+10:], sum(b[at:at+20]))
	b = binary.BigEndian.AppendUint16(b, uint16(1000+n))
	b = append(b, 0, 9) // discard
	b = binary.BigEndian.AppendUint16(b, uint16(size-at-20))
	b = append(b, 0, 0)
	b = append(b, bytes.Repeat([]byte{byte(n)}, size-len(b))...)
	return frame.Frame{Data: b, OrigLen: len(b), Link: frame.LinkEthernet, TimeNS: stamp + int64(n)*1000, Dir: frame.Ingress}
}

// sum is the checksum of an IPv4 header, written out.
func sum(b []byte) uint16 {
	n := uint32(0)
	for i := 0; i < len(b); i += 2 {
		n += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for n > 0xffff {
		n = n>>16 + n&0xffff
	}
	return ^uint16(n)
}

// stamp is 2026-03-01 12:00:00.123456789 UTC.
const stamp = 1772366400_123456789

// mixed are n frames of many lengths and conversations from the number first on, some with tags.
func mixed(first, n, longest int) (all []frame.Frame) {
	for i := first; i < first+n; i++ {
		size, tci := 42+(i*97)%(longest-42+1), uint16(0)
		if i%5 == 0 {
			tci = 0x6000 | uint16(i%4000+1) // priority 3
		}
		all = append(all, ethernet(i, size, tci))
	}
	return all
}

func temp(t *testing.T, name string) string { return filepath.Join(t.TempDir(), name) }
