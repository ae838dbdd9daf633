//go:build linux

package capture

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
	"crosstap/internal/ledger"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// startMirror listens in a namespace. The function ends it and returns the frames that came, with their points' names.
func startMirror(t *testing.T, s *testns.Space, urls ...string) (*Mirror, func() ([]frame.Frame, ledger.Statement)) {
	t.Helper()
	c := MirrorConfig{NetNS: s.Path(), BufferBytes: 16 << 20}
	for _, u := range urls {
		e, err := ParseEndpoint(u)
		if err != nil {
			t.Fatal(err)
		}
		c.Endpoints = append(c.Endpoints, e)
	}
	ready := make(chan struct{})
	c.Ready = func() { close(ready) }
	m, err := NewMirror(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	out, done := make(chan frame.Batch), make(chan error, 1)
	go func() { done <- m.Run(ctx, out); close(out) }()
	var frames []frame.Frame
	gathered := make(chan struct{})
	go func() {
		defer close(gathered)
		for b := range out {
			for _, f := range b.Frames {
				f.Data = slices.Clone(f.Data)
				frames = append(frames, f)
			}
			b.Release()
		}
	}()
	select {
	case <-ready:
	case err := <-done:
		cancel()
		t.Fatal(err)
	}
	return m, func() ([]frame.Frame, ledger.Statement) {
		t.Helper()
		quiet(m)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		<-gathered
		st := m.Book().Read()
		if err := st.Balance(); err != nil {
			t.Error(err)
		}
		return frames, st
	}
}

// quiet returns when nothing has come in for a while.
func quiet(m *Mirror) {
	const look, enough, most = 10 * time.Millisecond, 10, 500
	last, still := uint64(0), 0
	for range most {
		time.Sleep(look)
		if n := m.Book().Read().In; n != last {
			last, still = n, 0
		} else if still++; still == enough {
			return
		}
	}
}

// rawSender returns a function that sends GRE packets on loopback.
func rawSender(t *testing.T, s *testns.Space) func(b []byte) {
	t.Helper()
	fd := -1
	if err := s.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_GRE)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return func(b []byte) {
		t.Helper()
		if err := unix.Sendto(fd, b, 0, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			t.Fatal(err)
		}
	}
}

func dropped(st ledger.Statement, reason int) uint64 { return st.Dropped[reason].N }

// TestMirrorCorpus sends the ERSPAN packets of others' captures again, and compares the frames inside with what tshark finds there.
func TestMirrorCorpus(t *testing.T) {
	tshark := testkit.Tool(t, "tshark")
	s := testns.New(t)
	m, finish := startMirror(t, s, "erspan://", "gre://")
	send := rawSender(t, s)
	var want []string
	for _, name := range []string{"erspan-type-i-2", "erspan-type-i-4", "erspan-type-ii-3", "erspan-type-iii-pb-1", "erspan-type-iii-ft-7"} {
		path := testkit.Corpus(t, "tap/tcpdump/"+name+".pcap")
		frames, err := readFile(t, path)
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(tshark, "-r", path, "-T", "fields", "-E", "occurrence=l", "-E", "separator=;", "-e", "erspan.spanid", "-e", "eth.src", "-e", "eth.dst", "-e", "erspan.ft", "-e", "frame.protocols").Output()
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		for i, f := range frames {
			at := 14
			if binary.BigEndian.Uint16(f.Data[12:]) == 0x8100 {
				at = 18
			}
			ip := f.Data[at:]
			if ip[0]>>4 != 4 || ip[9] != 47 || len(f.Data) < f.OrigLen {
				continue
			}
			send(ip[int(ip[0]&15)*4 : binary.BigEndian.Uint16(ip[2:])])
			col := strings.Split(lines[i], ";")
			if col[3] == "7" || strings.Count(col[4], "eth:") < 2 && !strings.Contains(col[4], "erspan:eth") {
				continue // a marker of the clock
			}
			session := col[0]
			if session != "" {
				n, err := strconv.ParseUint(session, 0, 16)
				if err != nil {
					t.Fatal(err)
				}
				session = fmt.Sprint(" session ", n)
			}
			want = append(want, fmt.Sprintf("erspan 127.0.0.1%s: %s > %s", session, col[1], col[2]))
		}
	}
	frames, st := finish()
	var got []string
	for _, f := range frames {
		if f.Link != frame.LinkEthernet {
			continue // other GRE in the captures
		}
		name, _ := m.Interface(f.Point)
		got = append(got, fmt.Sprintf("%s: %s > %s", name, net.HardwareAddr(f.Data[6:12]), net.HardwareAddr(f.Data[:6])))
	}
	if diff := cmp.Diff(want, got); diff != "" || len(got) < 100 {
		t.Errorf("%d frames (-tshark +ours)\n%s\n%+v", len(got), diff, st)
	}
}

// TestMirrorKernelVXLAN receives what the kernel's VXLAN device sends, also in fragments, and counts it against the device's own counter.
func TestMirrorKernelVXLAN(t *testing.T) {
	a, b := cable(t)
	a.Sh(`ip addr add 10.1.0.1/24 dev a0
		ip link add vx type vxlan id 5001 remote 10.1.0.2 dstport 4789; ip link set vx mtu 9000 up`)
	b.Sh("ip addr add 10.1.0.2/24 dev b0")
	m, finish := startMirror(t, b, "vxlan://")
	send := sender(t, a, "vx")
	for i := range 200 {
		f := make([]byte, []int{60, 8000}[i%2]) // half of them in fragments of the outer packet
		copy(f, []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5})
		send(f)
	}
	frames, st := finish()
	var sent string
	if err := a.Do(func() error {
		out, err := exec.Command("sh", "-c", "ip -s link show vx | tail -1 | awk '{print $2}'").Output()
		sent = strings.TrimSpace(string(out))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	long := 0
	for _, f := range frames {
		if len(f.Data) == 8000 {
			long++
		}
	}
	name, _ := m.Interface(0)
	if sent != strconv.Itoa(len(frames)) || long != 100 || name != "vxlan 10.1.0.1 vni 5001" || m.Points() != 1 {
		t.Errorf("%d frames, %d long, the device sent %s; %q; %+v", len(frames), long, sent, name, st)
	}
}

// TestMirrorLosses sends a sequence with holes and disorder, other sessions, other senders and nonsense.
func TestMirrorLosses(t *testing.T) {
	s := testns.New(t)
	m, finish := startMirror(t, s, "erspan://127.0.0.1?session=5", "gre://?from=10.0.0.0/8", "udp://127.0.0.1:5555")
	send := rawSender(t, s)
	packet := func(seq uint32, session byte) []byte {
		return append(binary.BigEndian.AppendUint32(unhex(t, "100088be"), seq), unhex(t, "100000"+fmt.Sprintf("%02x", session)+"00000007"+frameHex)...)
	}
	for _, seq := range []uint32{10, 11, 14, 13, 200, 201} { // 12 and 15 to 199 are missing
		send(packet(seq, 5))
	}
	send(packet(300, 6))
	send(unhex(t, "000088be")) // nothing inside
	send(unhex(t, "00006558"+frameHex))
	send(unhex(t, "0000"+"86"))
	frames, st := finish()
	missing := uint64(1 + 185)
	if len(frames) != 6 || dropped(st, DropMirrorLost) != missing || m.Lost(0) != missing || dropped(st, DropMirrorSession) != 1 ||
		dropped(st, DropMirrorNoFrame) != 1 || dropped(st, DropMirrorSender) != 1 || st.In != 6+missing+3 {
		t.Errorf("%d frames, %+v", len(frames), st)
	}
}

// TestMirrorKernelDrops sends more than the socket's buffer holds while the next stage takes nothing: every datagram is in the book.
func TestMirrorKernelDrops(t *testing.T) {
	s := testns.New(t)
	e, err := ParseEndpoint("udp://127.0.0.1:5555")
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	m, err := NewMirror(MirrorConfig{Endpoints: []Endpoint{e}, NetNS: s.Path(), BufferBytes: 1 << 18, Ready: func() { close(ready) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	out, done := make(chan frame.Batch), make(chan error, 1)
	go func() { done <- m.Run(ctx, out); close(out) }()
	<-ready
	var c net.Conn
	if err := s.Do(func() (err error) { c, err = net.Dial("udp", "127.0.0.1:5555"); return err }); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const n = 5000
	for range n {
		if _, err := c.Write(make([]byte, 500)); err != nil {
			t.Fatal(err)
		}
	}
	got := 0
	ended := time.AfterFunc(300*time.Millisecond, cancel)
	defer ended.Stop()
	for b := range out {
		got += len(b.Frames)
		b.Release()
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	st := m.Book().Read()
	if st.Balance() != nil || st.In != n || int(st.Out) != got || dropped(st, DropMirrorKernel) == 0 {
		t.Errorf("%d sent, %d came, %+v", n, got, st)
	}
}

// TestMirrorManyOrigins has more origins than there are points: the last point takes the rest.
func TestMirrorManyOrigins(t *testing.T) {
	var p points
	for i := range maxOrigins + 10 {
		pt, shared := p.add(fmt.Sprint("origin ", i))
		if want := min(i, maxOrigins-1); int(pt.index) != want || shared != (i >= maxOrigins-1) {
			t.Fatalf("origin %d: point %d, %v", i, pt.index, shared)
		}
	}
	if name, _ := p.Interface(maxOrigins - 1); p.Points() != maxOrigins || name != "others" {
		t.Errorf("%d points, the last is %q", p.Points(), name)
	}
}

func TestMirrorErrors(t *testing.T) {
	s := testns.New(t)
	f := func(mistake string, urls ...string) {
		t.Helper()
		c := MirrorConfig{NetNS: s.Path()}
		for _, u := range urls {
			e, err := ParseEndpoint(u)
			if err != nil {
				t.Fatal(err)
			}
			c.Endpoints = append(c.Endpoints, e)
		}
		m, err := NewMirror(c)
		if err == nil {
			err = m.Run(context.Background(), nil)
		}
		if err == nil || !strings.Contains(err.Error(), mistake) {
			t.Errorf("%v: %v, want %q", urls, err, mistake)
		}
	}
	f("no endpoint")
	f("the same place", "vxlan://", "udp://:4789")
	f("the same place", "gre://", "gre://10.0.0.1")
	f("cannot assign", "vxlan://192.0.2.1")
	s.Sh("ip link add vx type vxlan id 1 dstport 4789 dev lo remote 127.0.0.1; ip link set vx up")
	f("tunnel interface of the kernel", "vxlan://")
}

// filled is a block with packets from one origin.
func filled(tb testing.TB, e Endpoint, n int, text string) (*mirrorSocket, *packetBlock) {
	tb.Helper()
	m, err := NewMirror(MirrorConfig{Endpoints: []Endpoint{e}})
	if err != nil {
		tb.Fatal(err)
	}
	s := &mirrorSocket{mirror: m, endpoint: &m.cfg.Endpoints[0], gaps: gaps{book: m.book}, known: map[origin]*known{}}
	p := newPacketBlock(&s.pool)
	for i := range n {
		b := unhex(tb, text)
		copy(p.mem[i*packetRoom:], b)
		p.hdrs[i].len = uint32(len(b))
		p.hdrs[i].hdr.SetControllen(0)
		p.names[i] = unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: [16]byte{10: 0xff, 11: 0xff, 12: 10, 15: 1}}
	}
	return s, p
}

func TestMirrorAllocatesNothing(t *testing.T) {
	s, p := filled(t, Endpoint{Encap: EncapVXLAN}, blockMessages, "0800000000138900"+frameHex)
	s.strip(p, blockMessages)
	if n := testkit.Allocs(100, func() { s.strip(p, blockMessages) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if len(p.frames) != blockMessages {
		t.Errorf("%d frames", len(p.frames))
	}
}

func BenchmarkMirrorStrip(b *testing.B) {
	for _, x := range []struct {
		encap Encap
		text  string
	}{{EncapVXLAN, "0800000000138900"}, {EncapERSPAN, "100088be00000001 10000005 00000007"}} {
		b.Run(x.encap.String(), func(b *testing.B) {
			s, p := filled(b, Endpoint{Encap: x.encap}, blockMessages, x.text+frameHex)
			b.ReportAllocs()
			for b.Loop() {
				s.strip(p, blockMessages)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*blockMessages), "ns/frame")
		})
	}
}
