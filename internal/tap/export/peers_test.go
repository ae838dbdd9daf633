package export

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/choose"
	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"crosstap/internal/testkit"
)

// totals are what a collector says came.
type totals struct{ Flows, Packets, Octets uint64 }

// mixed returns n TCP flows that differ in their ports, with counters of their own, and what they add up to. Of each ten one
// is IPv6 when that is wanted, and one in a tunnel.
func mixed(n int, v6 bool) (recs []flow.Record, sum totals) {
	recs = records(n)
	at := time.Now().Add(-3 * time.Second).Truncate(time.Millisecond)
	for i := range recs {
		r := &recs[i]
		r.Proto, r.DstPort, r.TCPFlags, r.SrcPort = 6, 443, 0x1b, uint16(1024+i)
		r.StartNS, r.EndNS = at.Add(time.Duration(i)*time.Millisecond).UnixNano(), at.Add(time.Duration(i+700)*time.Millisecond).UnixNano()
		r.Packets, r.Octets = uint64(1+i%7), uint64(100+i)
		r.L2Octets, r.MinLen, r.MaxLen, r.MinTTL, r.MaxTTL = r.Octets+14*r.Packets, 40, 1500, 63, 64
		switch {
		case i%10 == 3 && v6:
			r.Src, r.Dst = flow.FromNetip(netip.MustParseAddr("2001:db8::1")), flow.FromNetip(netip.MustParseAddr("2001:db8::2"))
			r.EtherType = 0x86dd
		case i%10 == 5:
			r.Segment = flow.NewSegment(flow.KindVXLAN, 5001)
			r.Tunnel = flow.Tunnel{
				Src: flow.FromNetip(netip.MustParseAddr("192.0.2.1")), Dst: flow.FromNetip(netip.MustParseAddr("192.0.2.2")),
				SrcPort: 50000, DstPort: 4789, Proto: 17, Type: 1,
			}
		}
		sum.Flows++
		sum.Packets += r.Packets
		sum.Octets += r.Octets
	}
	return recs, sum
}

// daemon starts a collector and waits until it has its port; stop ends it by a signal and waits.
func daemon(t *testing.T, port int, name string, args ...string) (stop func() string) {
	t.Helper()
	cmd := exec.Command(testkit.Tool(t, name), args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = patience // for a plugin that outlives it and has yet to write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	release := testkit.Guard(t, -cmd.Process.Pid)
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its plugins, when they are left
		release()
	})
	want := fmt.Sprintf(":%04X ", port)
	for deadline := time.Now().Add(patience); ; {
		udp, _ := os.ReadFile("/proc/thread-self/net/udp")
		udp6, _ := os.ReadFile("/proc/thread-self/net/udp6")
		if strings.Contains(string(udp)+string(udp6), want) {
			break
		}
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			t.Fatalf("%s does not listen: %s", name, out.String())
		}
		time.Sleep(10 * time.Millisecond)
	}
	return func() string {
		testkit.Drained(t, cmd.Process.Pid, port)
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		return out.String()
	}
}

// sendAll sends records to a target and ends.
func sendAll(t *testing.T, target Target, recs []flow.Record) {
	t.Helper()
	l := start(t, t.Context(), config(target))
	templates := target.Format != NetFlow5
	for end := time.Now().Add(patience); templates && l.Status()[0].Messages == 0 && time.Now().Before(end); { // they come first
		time.Sleep(time.Millisecond)
	}
	for i := 0; i < len(recs); i += 100 {
		l.in <- recs[i:min(i+100, len(recs))]
	}
	l.end(t)
	if s := l.Books()[0].Read(); s.Out != uint64(len(recs)) {
		t.Errorf("%s: books: %+v", target, s)
	}
}

func local(f Format, port int) Target {
	return Target{Format: f, Host: "127.0.0.1", Port: uint16(port), Domain: 7, Refresh: time.Minute}
}

// stored adds up what nfcapd or sfcapd stored.
func stored(flows []map[string]any) (sum totals) {
	for _, f := range flows {
		sum.Flows++
		sum.Packets += uint64(f["in_packets"].(float64))
		sum.Octets += uint64(f["in_bytes"].(float64))
	}
	return sum
}

// nfcapd stores every format to the same totals, with times to the millisecond.
func TestNfcapdTotals(t *testing.T) {
	t.Setenv("TZ", "UTC")
	f := func(format Format, v6 bool) {
		t.Helper()
		port := testkit.Port(t)
		stop := testkit.Nfcapd(t, "nfcapd", port)
		recs, want := mixed(500, v6)
		sendAll(t, local(format, port), recs)
		said, flows := stop()
		if !strings.Contains(said, "Sequence Errors: 0, Bad Packets: 0") {
			t.Errorf("format %d: nfcapd says %s", format, said)
		}
		if diff := cmp.Diff(want, stored(flows)); diff != "" {
			t.Errorf("format %d (-sent +nfdump):\n%s", format, diff)
		}
		times := make(map[float64][2]string)
		for _, f := range flows {
			times[f["src_port"].(float64)] = [2]string{f["first"].(string), f["last"].(string)}
		}
		for _, r := range recs {
			const layout = "2006-01-02T15:04:05.000"
			want := [2]string{time.Unix(0, r.StartNS).UTC().Format(layout), time.Unix(0, r.EndNS).UTC().Format(layout)}
			if got := times[float64(r.SrcPort)]; got != want {
				t.Errorf("format %d: port %d: from %s to %s, want %s to %s", format, r.SrcPort, got[0], got[1], want[0], want[1])
				break
			}
		}
	}
	f(NetFlow5, false)
	f(NetFlow9, true)
	f(IPFIX, true)
}

// pmacctTotals adds up the rows that a collector of pmacct's printed.
func pmacctTotals(t *testing.T, path string) (sum totals) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(b)).ReadAll()
	if err != nil || len(rows) < 2 {
		t.Fatalf("%v: %s", err, b)
	}
	column := make(map[string]int)
	for i, name := range rows[0] {
		column[name] = i
	}
	for _, row := range rows[1:] {
		p, _ := strconv.ParseUint(row[column["PACKETS"]], 10, 64)
		o, _ := strconv.ParseUint(row[column["BYTES"]], 10, 64)
		sum.Packets += p
		sum.Octets += o
		sum.Flows++
	}
	return sum
}

// pmacct writes a configuration for one of pmacct's collectors.
func pmacct(t *testing.T, kind string, port int) (args []string, out string) {
	t.Helper()
	dir := t.TempDir()
	out = filepath.Join(dir, "out.csv")
	conf := filepath.Join(dir, "conf")
	text := fmt.Sprintf("daemonize: false\n%s_ip: 127.0.0.1\n%s_port: %d\nplugins: print\naggregate: src_host, dst_host, src_port, dst_port, proto\n"+
		"print_output: csv\nprint_output_file: %s\nprint_refresh_time: 3600\nplugin_pipe_size: 4096000\nplugin_buffer_size: 4096\n%s_renormalize: true\n", kind, kind, port, out, kind)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"-f", conf}, out
}

// waitFile waits for what a process writes after its parent has ended.
func waitFile(t *testing.T, path string) {
	t.Helper()
	for range 6000 {
		if st, err := os.Stat(path); err == nil && st.Size() > 0 {
			time.Sleep(100 * time.Millisecond)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s was not written", path)
}

// nfacctd adds up every format to the same totals.
func TestNfacctdTotals(t *testing.T) {
	f := func(name string, format Format, v6 bool) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			port := testkit.Port(t)
			args, out := pmacct(t, "nfacctd", port)
			stop := daemon(t, port, "nfacctd", args...)
			recs, want := mixed(500, v6)
			sendAll(t, local(format, port), recs)
			said := stop()
			waitFile(t, out)
			if diff := cmp.Diff(want, pmacctTotals(t, out)); diff != "" {
				t.Errorf("(-sent +nfacctd):\n%s\n%s", diff, said)
			}
		})
	}
	f("netflow5", NetFlow5, false)
	f("netflow9", NetFlow9, true)
	f("ipfix", IPFIX, true)
}

// ethernet returns n frames of UDP over IPv4 with so many bytes of payload, and one more each.
func ethernet(n, payload int) (frames []frame.Frame) {
	recs := records(n)
	for i := range recs {
		b := choose.AppendFrame(nil, &recs[i])
		b = append(b, make([]byte, payload+i)...)
		b[16], b[17] = byte((len(b)-14)>>8), byte(len(b)-14)
		b[38], b[39] = byte((len(b)-34)>>8), byte(len(b)-34)
		frames = append(frames, frame.Frame{Data: b, OrigLen: len(b), Link: frame.LinkEthernet, TimeNS: time.Now().UnixNano()})
	}
	return frames
}

// sampleAll runs an agent over frames.
func sampleAll(t *testing.T, c SFlowConfig, frames []frame.Frame) *SFlow {
	t.Helper()
	s, err := NewSFlow(c)
	if err != nil {
		t.Fatal(err)
	}
	in := make(chan frame.Batch)
	done := make(chan error, 1)
	go func() { done <- s.Run(context.Background(), in) }()
	for i := 0; i < len(frames); i += 50 {
		in <- frame.Batch{Frames: frames[i:min(i+50, len(frames))]}
	}
	close(in)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if st := s.Book().Read(); st.Balance() != nil || st.Held != 0 {
		t.Errorf("books: %v %+v", st.Balance(), st)
	}
	return s
}

// sfcapd and sfacctd count each frame of a 1:1 sample once, with the frame check sequence that sFlow counts.
func TestSFlowTotals(t *testing.T) {
	frames := ethernet(300, 100)
	var want totals
	for _, f := range frames {
		want.Flows++
		want.Packets++
		want.Octets += uint64(f.OrigLen + 4)
	}
	agent := func(port int) {
		s := sampleAll(t, SFlowConfig{
			Target:  SFlowTarget{Host: "127.0.0.1", Port: uint16(port), Sample: 1, Header: 128, Counters: time.Second, Agent: netip.MustParseAddr("192.0.2.7")},
			Capture: true, IfIndex: func(uint32) uint32 { return 9 },
		}, frames)
		if st := s.Book().Read(); st.Out != 300 {
			t.Errorf("books: %+v", st)
		}
	}
	port := testkit.Port(t)
	sfcapd := testkit.Nfcapd(t, "sfcapd", port)
	agent(port)
	said, flows := sfcapd()
	if sum := stored(flows); sum != want {
		t.Errorf("sfcapd has %+v, want %+v: %s", sum, want, said)
	}
	port = testkit.Port(t)
	args, out := pmacct(t, "sfacctd", port)
	stop := daemon(t, port, "sfacctd", args...)
	agent(port)
	said = stop()
	waitFile(t, out)
	if sum := pmacctTotals(t, out); sum != want {
		t.Errorf("sfacctd has %+v, want %+v: %s", sum, want, said)
	}
}
