//go:build linux

package capture

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
	"crosstap/internal/ledger"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// cable is two namespaces with a veth pair between them: a0 in the first, b0 in the second.
func cable(t *testing.T) (a, b *testns.Space) {
	a, b = testns.New(t), testns.New(t)
	for _, s := range []*testns.Space{a, b} { // no chatter of its own
		s.Sh("echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
	}
	a.Sh("ip link add a0 type veth peer name b0 netns NS; ip link set a0 up", b)
	b.Sh("ip link set b0 up")
	a.Up("a0")
	b.Up("b0")
	return a, b
}

// sender returns a function that sends frames through an interface.
func sender(t *testing.T, s *testns.Space, name string) func(frames ...[]byte) {
	t.Helper()
	fd := -1
	if err := s.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		req, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: int(req.Uint32())})
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return func(frames ...[]byte) {
		t.Helper()
		for _, f := range frames {
			_, err := unix.Write(fd, f)
			for ; errors.Is(err, unix.ENOBUFS); _, err = unix.Write(fd, f) { // the other end has no room now
				time.Sleep(time.Millisecond)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// live is a source that captures.
type live struct {
	*Live
	out  chan frame.Batch
	done chan error
	stop context.CancelFunc
}

func startLive(t *testing.T, c LiveConfig, room int) *live {
	t.Helper()
	ready := make(chan struct{})
	c.Ready = func() { close(ready) }
	src, err := NewLive(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &live{Live: src, out: make(chan frame.Batch, room), done: make(chan error, 1), stop: cancel}
	go func() {
		if c.inPlace {
			l.done <- src.Each(ctx, l.take)
		} else {
			l.done <- src.Run(ctx, l.out)
		}
		close(l.out)
	}()
	select {
	case <-ready:
	case err := <-l.done:
		t.Fatal(err)
	}
	return l
}

// take hands copies of frames over, and waits as long as that takes.
func (l *live) take(b frame.Batch) bool {
	if len(b.Frames) == 0 {
		return true
	}
	all := slices.Clone(b.Frames)
	for i := range all {
		all[i].Data = bytes.Clone(all[i].Data)
	}
	b.Release()
	for {
		select {
		case l.out <- frame.Batch{Frames: all}:
			return true
		case <-time.After(crowdInterval):
			l.Relieve()
		}
	}
}

// bothWays runs a test with Run and with Each.
func bothWays(t *testing.T, f func(t *testing.T, inPlace bool)) {
	t.Run("Run", func(t *testing.T) { f(t, false) })
	t.Run("Each", func(t *testing.T) { f(t, true) })
}

// finish stops the source and returns copies of all frames that it has sent, and its books.
func (l *live) finish(t *testing.T) ([]frame.Frame, ledger.Statement) {
	t.Helper()
	l.stop()
	var all []frame.Frame
	for b := range l.out {
		for _, f := range b.Frames {
			f.Data = bytes.Clone(f.Data)
			all = append(all, f)
		}
		b.Release()
	}
	if err := <-l.done; err != nil {
		t.Error(err)
	}
	s := l.Book().Read()
	if err := s.Balance(); err != nil || s.Out != uint64(len(all)) || s.Held != 0 {
		t.Errorf("ledger: %+v, %d frames: %v", s, len(all), err)
	}
	return all, s
}

func ethernet(body string) []byte {
	return append([]byte("\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01"), body...)
}

// patience is how long a test waits for what must happen.
const patience = time.Minute

func testLive(s *testns.Space, names ...string) LiveConfig {
	c := DefaultLiveConfig()
	c.NetNS, c.Interfaces, c.RingBytes = s.Path(), names, minRing
	return c
}

// TestLive captures both ways on one interface: bytes, direction, time, and the tag that the kernel takes out.
func TestLive(t *testing.T) { bothWays(t, bothDirections) }

func bothDirections(t *testing.T, inPlace bool) {
	a, b := cable(t)
	c := testLive(b, "b0")
	c.inPlace = inPlace
	in, out := sender(t, a, "a0"), sender(t, b, "b0")
	plain, tagged := ethernet("\x88\xb5hello"+strings.Repeat("x", 60)), ethernet("\x81\x00\x60\x0a\x88\xb5tag"+strings.Repeat("y", 60))
	service := ethernet("\x88\xa8\x00\x14\x88\xb5service" + strings.Repeat("z", 60))
	before := time.Now()
	l := startLive(t, c, 8)
	in(plain, tagged, service)
	l.settled(t, 3)
	out(plain)
	l.settled(t, 4)
	got, books := l.finish(t)
	want := []struct {
		data []byte
		dir  frame.Direction
	}{{plain, frame.Ingress}, {tagged, frame.Ingress}, {service, frame.Ingress}, {plain, frame.Egress}}
	if len(got) != len(want) {
		t.Fatalf("%d frames, want %d; %+v", len(got), len(want), books)
	}
	for i, w := range want {
		g := got[i]
		if !bytes.Equal(g.Data, w.data) || g.OrigLen != len(w.data) || g.Dir != w.dir || g.Link != frame.LinkEthernet {
			t.Errorf("frame %d: %d of %d bytes, direction %d\n got %x\nwant %x", i, len(g.Data), g.OrigLen, g.Dir, g.Data, w.data)
		}
		if at := time.Unix(0, g.TimeNS); at.Before(before) || at.After(time.Now()) {
			t.Errorf("frame %d at %s", i, at)
		}
	}
}

func TestSnapLenAndFilter(t *testing.T) { bothWays(t, snapLenAndFilter) }

func snapLenAndFilter(t *testing.T, inPlace bool) {
	a, b := cable(t)
	send := sender(t, a, "a0")
	long, other := ethernet("\x88\xb5"+strings.Repeat("a", 500)), ethernet("\x88\xb6"+strings.Repeat("b", 500))
	c := testLive(b, "b0")
	c.inPlace = inPlace
	c.SnapLen, c.IngressOnly = 200, true
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2}, bpf.JumpIf{Val: 0x88b5, SkipFalse: 1}, bpf.RetConstant{Val: 1 << 16}, bpf.RetConstant{},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Filter = func(link frame.LinkType) ([]bpf.RawInstruction, error) {
		if link != frame.LinkEthernet {
			t.Errorf("link type %d", link)
		}
		return program, nil
	}
	l := startLive(t, c, 8)
	send(other, long, other)
	sender(t, b, "b0")(long)
	l.settled(t, 1)
	got, _ := l.finish(t)
	if len(got) != 1 || !bytes.Equal(got[0].Data, long[:200]) || got[0].OrigLen != len(long) || !got[0].Truncated() {
		t.Errorf("%d frames: %+v", len(got), got)
	}
}

// TestTwoInterfaces gives each interface a point of its own.
func TestTwoInterfaces(t *testing.T) { bothWays(t, twoInterfaces) }

func twoInterfaces(t *testing.T, inPlace bool) {
	a, b := cable(t)
	b.Sh("ip link add b1 type veth peer name a1 netns NS; ip link set b1 up", a)
	a.Sh("ip link set a1 up")
	a.Up("a1")
	b.Up("b1")
	c := testLive(b, "b1", "b0")
	c.inPlace = inPlace
	l := startLive(t, c, 8)
	sender(t, a, "a0")(ethernet("\x88\xb5zero" + strings.Repeat("0", 60)))
	sender(t, a, "a1")(ethernet("\x88\xb5one" + strings.Repeat("1", 60)))
	l.settled(t, 2)
	got, _ := l.finish(t)
	points := map[string]uint32{}
	for _, f := range got {
		points[string(f.Data[14:17])] = f.Point
	}
	if len(got) != 2 || points["zer"] != 1 || points["one"] != 0 {
		t.Errorf("%v", points)
	}
}

// TestSlowStage captures much more than a ring holds while nobody takes a batch: the sender is not held up, and every frame is
// in the books.
func TestSlowStage(t *testing.T) { bothWays(t, slowStage) }

func slowStage(t *testing.T, inPlace bool) {
	a, b := cable(t)
	c := testLive(b, "b0")
	c.inPlace = inPlace
	l := startLive(t, c, 1)
	send := sender(t, a, "a0")
	frames := make([][]byte, 1000)
	for i := range frames {
		frames[i] = ethernet("\x88\xb5" + strings.Repeat(string(rune('a'+i%26)), 1000))
	}
	const rounds = 5 // of 1 MB, the size of the ring
	for range rounds {
		send(frames...)
		time.Sleep(30 * time.Millisecond)
	}
	got, books := l.finish(t)
	if books.In != rounds*1000 {
		t.Errorf("%d frames in the books, %d sent", books.In, rounds*1000)
	}
	if books.Dropped[DropDownstream].N == 0 || len(got) == 0 {
		t.Errorf("%+v", books)
	}
}

// TestReattach takes the interface down and up, then away and back.
func TestReattach(t *testing.T) { bothWays(t, reattach) }

func reattach(t *testing.T, inPlace bool) {
	a, b := cable(t)
	var taken atomic.Int64
	c := testLive(b, "b0")
	c.inPlace = inPlace
	l := startLive(t, c, 8)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for batch := range l.out {
			taken.Add(int64(len(batch.Frames)))
			batch.Release()
		}
	}()
	expect := func(what string) {
		t.Helper()
		before := taken.Load()
		for range 1200 {
			sendIfUp(a, "a0", ethernet("\x88\xb5x"+strings.Repeat("x", 60)))
			time.Sleep(50 * time.Millisecond)
			if taken.Load() > before {
				return
			}
		}
		t.Errorf("%s: no frame", what)
	}
	expect("at first")
	b.Sh("ip link set b0 down")
	time.Sleep(50 * time.Millisecond)
	b.Sh("ip link set b0 up")
	expect("up again")
	b.Sh("ip link del b0")
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if name, index := l.Interface(0); name == "b0" && index == 0 {
			break
		} else if time.Now().After(end) {
			t.Fatalf("an interface that is gone has index %d", index)
		}
	}
	b.Sh("ip link add b0 type veth peer name a0 netns NS; ip link set b0 up", a)
	a.Sh("ip link set a0 up")
	a.Up("a0")
	b.Up("b0")
	expect("made again")
	l.stop()
	<-drained
	if err := <-l.done; err != nil {
		t.Error(err)
	}
	if err := l.Book().Read().Balance(); err != nil {
		t.Error(err)
	}
}

// sendIfUp sends one frame; what the interface does with it shows at the other end.
func sendIfUp(s *testns.Space, name string, f []byte) {
	_ = s.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		req, _ := unix.NewIfreq(name)
		if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req); err != nil {
			return err
		}
		return unix.Sendto(fd, f, 0, &unix.SockaddrLinklayer{Ifindex: int(req.Uint32())})
	})
}

// TestTcpdump captures the same traffic as tcpdump; both must have the same frames.
func TestTcpdump(t *testing.T) { bothWays(t, besideTcpdump) }

func besideTcpdump(t *testing.T, inPlace bool) {
	tool := testkit.Tool(t, "tcpdump")
	a, b := cable(t)
	path := filepath.Join(t.TempDir(), "x.pcap")
	var dump *exec.Cmd
	if err := b.Do(func() error {
		dump = exec.Command(tool, "-i", "b0", "-s", "2048", "-B", "32768", "--immediate-mode", "-U", "-Z", "root", "-w", path)
		stderr, err := dump.StderrPipe()
		if err != nil {
			return err
		}
		if err := dump.Start(); err != nil {
			return err
		}
		_, err = stderr.Read(make([]byte, 1))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	c := testLive(b, "b0")
	c.inPlace = inPlace
	c.RingBytes = 16 << 20
	l := startLive(t, c, 64)
	send := sender(t, a, "a0")
	const n, fileHead, frameHead = 3000, 24, 16
	size := int64(fileHead)
	for i := range n {
		f := ethernet("\x88\xb5" + strings.Repeat(string(rune('a'+i%26)), 46+i*7%1400))
		send(f)
		size += frameHead + int64(len(f))
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if st, err := os.Stat(path); err == nil && st.Size() >= size {
			break
		}
	}
	l.settled(t, n)
	got, _ := l.finish(t)
	_ = dump.Process.Signal(syscall.SIGINT)
	_ = dump.Wait()
	want, err := readFile(t, path)
	if err != nil || len(want) != len(got) {
		t.Fatalf("%d frames, tcpdump has %d (%v)", len(got), len(want), err)
	}
	for i := range want {
		if !bytes.Equal(got[i].Data, want[i].Data) {
			t.Fatalf("frame %d differs", i)
		}
	}
}

func TestLiveErrors(t *testing.T) {
	s := testns.New(t)
	src, err := NewLive(testLive(s, "lo", "nope"))
	if err != nil {
		t.Fatal(err)
	}
	var unknown *UnknownInterface
	if err := src.Run(context.Background(), nil); !errors.As(err, &unknown) || unknown.Name != "nope" || unknown.Have[0] != "lo" {
		t.Errorf("%v", err)
	}
	if err := permission(unix.EPERM); !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "CAP_NET_RAW") {
		t.Errorf("%v", err)
	}
	f := func(change func(*LiveConfig), want string) {
		t.Helper()
		c := DefaultLiveConfig()
		c.Interfaces = []string{"eth0"}
		change(&c)
		if _, err := NewLive(c); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	f(func(c *LiveConfig) { c.Interfaces = nil }, "capture: no interface: name at least one")
	f(func(c *LiveConfig) { c.Interfaces = []string{"a", "a"} }, `capture: interface "a" is named twice`)
	f(func(c *LiveConfig) { c.Interfaces = []string{"a234567890123456"} }, `capture: interface "a234567890123456": a name has 1 to 15 bytes`)
	f(func(c *LiveConfig) { c.RingBytes = 1 }, "capture: ring of 1 bytes: must be 1048576 to 1073741824")
}
