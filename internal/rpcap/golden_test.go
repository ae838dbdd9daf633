package rpcap

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/bpf"

	"crosstap/internal/frame"
	"crosstap/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// said is what one end of a recorded connection sent in one segment.
type said struct {
	from, to uint16
	bytes    []byte
}

// recorded reads a conversation of libpcap's client and its rpcapd, captured on loopback.
func recorded(t *testing.T, name string) (all []said) {
	t.Helper()
	b, err := os.ReadFile(testkit.Corpus(t, "tap/rpcap/"+name))
	if err != nil {
		t.Fatal(err)
	}
	for b = b[24:]; len(b) > 16; {
		n := int(binary.LittleEndian.Uint32(b[8:]))
		ip := b[16+14 : 16+n]
		ip = ip[:binary.BigEndian.Uint16(ip[2:])]
		tcp := ip[int(ip[0]&15)*4:]
		if data := tcp[int(tcp[12]>>4)*4:]; len(data) > 0 {
			all = append(all, said{binary.BigEndian.Uint16(tcp), binary.BigEndian.Uint16(tcp[2:]), data})
		}
		b = b[16+n:]
	}
	return all
}

// between returns what was sent from and to a port, each as one string of bytes.
func between(all []said, port uint16) (from, to []byte) {
	for _, s := range all {
		switch port {
		case s.from:
			from = append(from, s.bytes...)
		case s.to:
			to = append(to, s.bytes...)
		}
	}
	return from, to
}

// split cuts a stream into messages.
func split(t *testing.T, b []byte) (all [][]byte) {
	t.Helper()
	for len(b) > 0 {
		n := headerLen + int(binary.BigEndian.Uint32(b[4:]))
		all, b = append(all, b[:n]), b[n:]
	}
	return all
}

// serve runs a server on loopback until the test ends.
func serve(t *testing.T, change func(*ServerConfig)) *Server {
	t.Helper()
	c := DefaultServerConfig()
	c.Addr = "127.0.0.1:0"
	c.Interfaces = func() []Interface {
		return []Interface{{Name: "vpA", Flags: 0x16, Link: frame.LinkEthernet}, {Name: "tun0", Link: frame.LinkRaw}}
	}
	if change != nil {
		change(&c)
	}
	s, err := NewServer(c)
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.Listen(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func dial(t *testing.T, s *Server) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// ask sends bytes and returns the reply with its header.
func ask(t *testing.T, c net.Conn, b []byte) []byte {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	h, body, err := readMessage(c, nil, maxReply)
	if err != nil {
		t.Fatal(err)
	}
	return append(h.append(nil), body...)
}

func equal(t *testing.T, what string, want, got []byte) {
	t.Helper()
	if !bytes.Equal(want, got) {
		t.Errorf("%s:\nwant %x\ngot  %x", what, want, got)
	}
}

// TestFindAll replays the question for all interfaces; a list with what the recorded one holds is the same bytes.
func TestFindAll(t *testing.T) {
	all := recorded(t, "rpcap-findalldevs-null-auth.pcap")
	replies, requests := between(all, 2002)
	want, asked := split(t, replies), split(t, requests)
	list, err := parseInterfaces(want[1][headerLen:], 10)
	if err != nil {
		t.Fatal(err)
	}
	names := ""
	for _, i := range list {
		names += i.Name + " "
	}
	if names != "br0 vpA vpB vpT any lo nflog nfqueue dbus-system dbus-session " {
		t.Errorf("names: %s", names)
	}
	lo := Interface{Name: "lo", Flags: 0x37, Addresses: []Address{{Addr: []byte{127, 0, 0, 1}, Mask: []byte{255, 0, 0, 0}}}}
	if diff := cmp.Diff(lo, list[5]); diff != "" {
		t.Error(diff)
	}
	s := serve(t, func(c *ServerConfig) { c.Interfaces = func() []Interface { return list } })
	c := dial(t, s)
	equal(t, "login", want[0], ask(t, c, asked[0]))
	equal(t, "interfaces", want[1], ask(t, c, asked[1]))
}

// TestNoSuchDevice replays an attempt to open what is not there.
func TestNoSuchDevice(t *testing.T) {
	replies, requests := between(recorded(t, "rpcap-errors.pcap"), 2002)
	want, asked := split(t, replies), split(t, requests)
	c := dial(t, serve(t, nil))
	equal(t, "login", want[0], ask(t, c, asked[0]))
	got := ask(t, c, asked[1])
	equal(t, "type and code", want[1][:4], got[:4])
	if text := string(got[headerLen:]); text != "nosuchif: No such device exists" {
		t.Error(text)
	}
}

// TestCapture replays a capture with a filter: the frames that the recorded server sent are published and come out as the same bytes.
func TestCapture(t *testing.T) {
	all := recorded(t, "rpcap-open-start-filter-stats.pcap")
	replies, requests := between(all, 2002)
	data, _ := between(all, 2003)
	want, asked := split(t, replies), split(t, requests)
	s := serve(t, nil)
	c := dial(t, s)
	equal(t, "login", want[0], ask(t, c, asked[0]))
	equal(t, "open", want[1], ask(t, c, asked[1]))
	if _, err := c.Write(asked[2]); err != nil {
		t.Fatal(err)
	}
	h, body, err := readMessage(c, nil, maxReply)
	if err != nil || h.kind != msgStart|reply || len(body) != len(want[2])-headerLen {
		t.Fatalf("start: %+v, %d bytes, %v", h, len(body), err)
	}
	feed, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(binary.BigEndian.Uint16(body[4:])))))
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	waitCaptures(t, s, 1)
	frames := framesOf(t, data)
	frames = append(frames, frame.Frame{Data: make([]byte, 60), OrigLen: 60, Link: frame.LinkEthernet}) // no ICMP: the filter wants it not
	other := frames[0]
	other.Point = 1
	s.Publish(append(frames, other))
	got := make([]byte, len(data))
	_ = feed.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadFull(feed, got); err != nil {
		t.Fatal(err)
	}
	equal(t, "frames", data, got)
	equal(t, "figures", want[3], ask(t, c, asked[3]))
	if _, err := c.Write(asked[4]); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the leave: %d, %v", n, err)
	}
	if st := s.Book().Read(); st.Balance() != nil || st.In != 10 || st.Out != 8 || st.Dropped[DropNoClient].N != 2 {
		t.Errorf("%+v", st)
	}
}

func waitCaptures(t *testing.T, s *Server, n int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		s.mu.RLock()
		have := len(s.captures)
		s.mu.RUnlock()
		if have == n {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("%d captures do not begin or end", n)
}

// framesOf returns the frames of a data connection.
func framesOf(t *testing.T, data []byte) (frames []frame.Frame) {
	for _, m := range split(t, data) {
		p := m[headerLen:]
		be := binary.BigEndian
		frames = append(frames, frame.Frame{
			Data: p[packetLen:], OrigLen: int(be.Uint32(p[12:])), TimeNS: int64(be.Uint32(p))*1e9 + int64(be.Uint32(p[4:]))*1e3, Link: frame.LinkEthernet,
		})
	}
	return frames
}

// TestClientSpeaksAsLibpcap lets our client talk to a player of the recorded server: it sends what libpcap's client sent, to the byte.
func TestClientSpeaksAsLibpcap(t *testing.T) {
	all := recorded(t, "rpcap-open-start-filter-stats.pcap")
	replies, requests := between(all, 2002)
	data, _ := between(all, 2003)
	want, answers := split(t, requests), split(t, replies)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	feed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	binary.BigEndian.PutUint16(answers[2][headerLen+4:], uint16(feed.Addr().(*net.TCPAddr).Port))
	played := make(chan [][]byte, 1)
	go func() {
		var got [][]byte
		defer func() { played <- got }()
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for i := range want {
			h, body, err := readMessage(c, nil, maxRequest)
			if err != nil {
				return
			}
			got = append(got, append(h.append(nil), body...))
			if i < len(answers) {
				_, _ = c.Write(answers[i])
			}
			if i == 2 {
				d, err := feed.Accept()
				if err != nil {
					return
				}
				defer d.Close()
				_, _ = d.Write(data)
			}
		}
	}()
	cl, err := Dial(context.Background(), ClientConfig{Host: "127.0.0.1", Port: uint16(l.Addr().(*net.TCPAddr).Port)})
	if err != nil {
		t.Fatal(err)
	}
	filter := []bpf.RawInstruction{{Op: 0x28, K: 12}, {Op: 0x15, Jf: 3, K: 0x800}, {Op: 0x30, K: 23}, {Op: 0x15, Jf: 1, K: 1}, {Op: 6, K: 0x40000}, {Op: 6}}
	link, err := cl.Start(context.Background(), CaptureConfig{Device: "vpA", Promiscuous: true, Filter: func(frame.LinkType) ([]bpf.RawInstruction, error) { return filter, nil }})
	if err != nil || link != frame.LinkEthernet {
		t.Fatal(link, err)
	}
	var buf []byte
	for i, w := range framesOf(t, data) {
		f, b, err := cl.Next(buf[:0])
		if err != nil {
			t.Fatal(err)
		}
		buf = b
		w.Dir = frame.Unknown
		if diff := cmp.Diff(w, f); diff != "" {
			t.Errorf("frame %d: %s", i, diff)
		}
	}
	st, err := cl.Stats()
	if diff := cmp.Diff(Stats{Received: 8, Sent: 8}, st); diff != "" || err != nil {
		t.Error(diff, err)
	}
	cl.Close()
	got := <-played
	for i := range min(len(got), len(want)) {
		if !bytes.Equal(want[i], got[i]) {
			t.Errorf("request %d:\nlibpcap %s\nours    %s", i, hex.EncodeToString(want[i]), hex.EncodeToString(got[i]))
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d requests, want %d", len(got), len(want))
	}
}
