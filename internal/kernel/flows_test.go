package kernel

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/dissect"
	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"crosstap/internal/ledger"
	"crosstap/internal/tap/testns"
	"crosstap/internal/testkit"
)

// sums are what a flow has carried one way.
type sums struct{ Packets, Octets, L2Octets uint64 }

// metered runs Flows on p1; the function stops it and returns the sums of its records by 5-tuple, those of the frames that went to user
// space, and the books.
func (l *lab) metered(c FlowsConfig) (stop func() (records []flow.Record, frames []frame.Frame, book ledger.Statement)) {
	l.t.Helper()
	c.Interfaces, c.NetNS = []string{"p1"}, l.host.Path()
	if c.Idle == 0 {
		c.Idle, c.Active = time.Minute, time.Minute
	}
	if c.MaxFlows == 0 {
		c.MaxFlows = 1000
	}
	c.RingBytes, c.Tunnels = 4<<20, dissect.DefaultConfig().VXLANPorts
	f, err := NewFlows(c)
	must(l.t, err)
	must(l.t, f.Open())
	out, up := make(chan []flow.Record, 64), make(chan frame.Batch, 64)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	var records []flow.Record
	var frames []frame.Frame
	collected := make(chan struct{})
	go func() {
		done <- f.Run(ctx, context.Background(), up, out)
		close(out)
		close(up)
	}()
	go func() {
		defer close(collected)
		for r := range out {
			records = append(records, r...)
		}
	}()
	go func() {
		for b := range up {
			for _, x := range b.Frames {
				x.Data = append([]byte(nil), x.Data...)
				frames = append(frames, x)
			}
			b.Release()
		}
	}()
	return func() ([]flow.Record, []frame.Frame, ledger.Statement) {
		cancel()
		if err := <-done; err != nil {
			l.t.Error(err)
		}
		<-collected
		for _, b := range []*ledger.Book{f.Book(), f.Records()} {
			if s := b.Read(); s.Balance() != nil || s.Held != 0 {
				l.t.Errorf("%+v: %v", s, s.Balance())
			}
		}
		return records, frames, f.Book().Read()
	}
}

func total(records []flow.Record) map[string]sums {
	all := map[string]sums{}
	for _, r := range records {
		k := fmt.Sprint(r.Proto, " ", r.Src, " ", r.SrcPort, " > ", r.Dst, " ", r.DstPort)
		s := all[k]
		all[k] = sums{s.Packets + r.Packets, s.Octets + r.Octets, s.L2Octets + r.L2Octets}
	}
	return all
}

// seen sums a capture of TCP and UDP by 5-tuple.
func seen(t *testing.T, path string) map[string]sums {
	all := map[string]sums{}
	for _, row := range tshark(t, path, "frame.len", "ip.proto", "ip.src", "ip.dst", "ip.len", "ipv6.nxt", "ipv6.src", "ipv6.dst", "ipv6.plen",
		"tcp.srcport", "tcp.dstport", "udp.srcport", "udp.dstport") {
		col := strings.Split(row, ";")
		num := func(i int) uint64 { n, _ := strconv.ParseUint(col[i], 10, 64); return n }
		proto, src, dst, octets := col[1], col[2], col[3], num(4)
		if src == "" {
			proto, src, dst, octets = col[5], col[6], col[7], num(8)+40
		}
		k := fmt.Sprint(proto, " ", src, " ", col[9]+col[11], " > ", dst, " ", col[10]+col[12])
		s := all[k]
		all[k] = sums{s.Packets + 1, s.Octets + octets, s.L2Octets + num(0)}
	}
	return all
}

// TestFlows counts streams where they travel in super-frames, and compares with what tshark sees behind the place where they are cut.
func TestFlows(t *testing.T) {
	l := newLab(t)
	l.arp()
	ethtool := testkit.Tool(t, "ethtool")
	l.host.Sh(ethtool + " -K p2 tso off gso off tx-udp-segmentation off")
	l.b.Sh(ethtool + " -K eth0 gro off tso off gso off")
	truth := filepath.Join(t.TempDir(), "truth.pcap")
	stopDump := l.b.Dump(testkit.Tool(t, "tcpdump"), truth, "-s", "200", "-B", "32768", "tcp or udp")
	stop := l.metered(FlowsConfig{})
	l.a.Stream(l.b, "10.9.0.2", make([]byte, 3_000_000))
	l.a.Stream(l.b, "fd09::2", make([]byte, 2_000_000))
	l.a.Datagrams(l.b, "10.9.0.2", make([]byte, 40*1100-1100/3), 1100)
	l.a.Datagrams(l.b, "fd09::2", make([]byte, 30*900-900/3), 900)
	testns.WaitStill(truth)
	records, _, book := stop()
	stopDump()
	for i := range records {
		if r := &records[i]; r.Proto != 6 && r.Proto != 17 {
			records[i].Packets = 0
		}
	}
	got := total(records)
	for k, s := range got {
		if s.Packets == 0 {
			delete(got, k)
		}
	}
	if diff := cmp.Diff(seen(t, truth), got); diff != "" {
		t.Errorf("(-tshark behind the cut, +counted before it)\n%s", diff)
	}
	var packets uint64
	for _, r := range records {
		packets += r.Packets
		if r.SrcMAC == 0 || r.DstMAC == 0 || r.MinTTL != 64 && r.Proto == 6 || r.StartNS == 0 || r.EndNS < r.StartNS || r.MaxLen < r.MinLen || r.MinLen == 0 && r.Packets > 0 {
			t.Errorf("%+v", r)
		}
	}
	if packets < 2*book.Out {
		t.Errorf("%d frames for %d packets: there were hardly any super-frames; the test shows nothing", book.Out, packets)
	}
}
