package export

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/testkit"
)

// capture writes payloads as packets of UDP or TCP to a port. What TCP carries is one stream.
func capture(t *testing.T, proto byte, port uint16, payloads [][]byte) string {
	t.Helper()
	b := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	b = append(b, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0)
	be := binary.BigEndian
	seq := uint32(1)
	for i, p := range payloads {
		l4 := be.AppendUint16(be.AppendUint16(nil, 40000), port)
		if proto == 6 {
			l4 = be.AppendUint32(be.AppendUint32(l4, seq), 1)
			l4 = append(l4, 5<<4, 0x18, 0xff, 0xff, 0, 0, 0, 0)
			seq += uint32(len(p))
		} else {
			l4 = be.AppendUint16(l4, uint16(8+len(p)))
			l4 = append(l4, 0, 0)
		}
		n := uint32(14 + 20 + len(l4) + len(p))
		for _, v := range []uint32{1_700_000_000, uint32(i), n, n} {
			b = binary.LittleEndian.AppendUint32(b, v)
		}
		b = append(b, 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0)
		b = be.AppendUint16(b, uint16(20+len(l4)+len(p)))
		b = append(b, 0, 0, 0, 0, 64, proto, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1)
		b = append(append(b, l4...), p...)
	}
	path := filepath.Join(t.TempDir(), "capture.pcap")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// tsharkSums adds up fields over a capture, and fails when tshark finds anything wrong.
func tsharkSums(t *testing.T, path string, fields ...string) []uint64 {
	t.Helper()
	args := []string{"-r", path, "-T", "fields", "-E", "separator=;"}
	for _, f := range append(fields, "_ws.malformed", "cflow.unknown_field_type") {
		args = append(args, "-e", f)
	}
	out, err := exec.Command(testkit.Tool(t, "tshark"), args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	sums := make([]uint64, len(fields)+2)
	for line := range strings.Lines(string(out)) {
		for i, column := range strings.Split(strings.TrimSpace(line), ";") {
			if i >= len(fields) && column != "" {
				t.Errorf("tshark does not know what to make of it: %s", column)
			}
			for _, v := range strings.Split(column, ",") {
				n, _ := strconv.ParseUint(v, 10, 64)
				sums[i] += n
			}
		}
	}
	return sums
}

// gather reads datagrams until nothing comes any more.
func gather(c *net.UDPConn) (all [][]byte) {
	for buf := make([]byte, 65536); ; {
		_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		n, err := c.Read(buf)
		if err != nil {
			return all
		}
		all = append(all, append([]byte(nil), buf[:n]...))
	}
}

// tshark adds up each format to the same totals: over UDP, and IPFIX out of a TCP stream.
func TestTsharkTotals(t *testing.T) {
	sum := func(path string) totals {
		sums := tsharkSums(t, path, "cflow.packets", "cflow.octets")
		return totals{0, sums[0], sums[1]}
	}
	for _, format := range []Format{NetFlow5, NetFlow9, IPFIX} {
		c := listen(t, "udp4", "127.0.0.1:0")
		recs, want := mixed(200, format != NetFlow5)
		want.Flows = 0
		target := c.target(t)
		target.Format = format
		sendAll(t, target, recs)
		if diff := cmp.Diff(want, sum(capture(t, 17, 2055, gather(c.conn)))); diff != "" {
			t.Errorf("format %d (-sent +tshark):\n%s", format, diff)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	stream := make(chan []byte, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			stream <- nil
			return
		}
		defer conn.Close()
		b, _ := io.ReadAll(conn)
		stream <- b
	}()
	recs, want := mixed(200, true)
	want.Flows = 0
	a := l.Addr().(*net.TCPAddr)
	sendAll(t, Target{Transport: TCP, Host: "127.0.0.1", Port: uint16(a.Port), Domain: 5, Refresh: time.Minute}, recs)
	var segments [][]byte
	for b := <-stream; len(b) > 0; b = b[min(len(b), 1000):] {
		segments = append(segments, b[:min(len(b), 1000)])
	}
	if diff := cmp.Diff(want, sum(capture(t, 6, 4739, segments))); diff != "" {
		t.Errorf("TCP (-sent +tshark):\n%s", diff)
	}
}

// tshark reads our samples: their number, and the lengths of the frames.
func TestTsharkReadsSamples(t *testing.T) {
	c := listen(t, "udp4", "127.0.0.1:0")
	frames := ethernet(100, 100)
	want := uint64(0)
	for _, f := range frames {
		want += uint64(f.OrigLen + 4)
	}
	sampleAll(t, SFlowConfig{
		Target: SFlowTarget{Host: "127.0.0.1", Port: uint16(c.conn.LocalAddr().(*net.UDPAddr).Port), Sample: 1, Header: 64}, Capture: true,
	}, frames)
	path := capture(t, 17, 6343, gather(c.conn))
	if sums := tsharkSums(t, path, "sflow_245.header.frame_length", "sflow_245.numsamples"); sums[0] != want || sums[1] != 100 {
		t.Errorf("tshark adds up %d bytes of %d samples, want %d of 100", sums[0], sums[1], want)
	}
}
