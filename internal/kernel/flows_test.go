package kernel

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/dissect"
	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"crosstap/internal/ledger"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
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
	var collected sync.WaitGroup
	go func() {
		done <- f.Run(ctx, context.Background(), up, out)
		close(out)
		close(up)
	}()
	collected.Go(func() {
		for r := range out {
			records = append(records, r...)
		}
	})
	collected.Go(func() {
		for b := range up {
			for _, x := range b.Frames {
				x.Data = append([]byte(nil), x.Data...)
				frames = append(frames, x)
			}
			b.Release()
		}
	})
	return func() ([]flow.Record, []frame.Frame, ledger.Statement) {
		cancel()
		if err := <-done; err != nil {
			l.t.Error(err)
		}
		collected.Wait()
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

// TestFlowsFields counts packets written by hand, and compares every field of their records. What the kernel leaves to user space arrives there.
func TestFlowsFields(t *testing.T) {
	l := newLab(t)
	const macs = "ffffffffffff 0200000000aa "
	l.b.Sh("ip link set eth0 down") // it answers nothing
	stop := l.metered(FlowsConfig{Config: Config{Filter: "ether src 02:00:00:00:00:aa", IngressOnly: true}})
	frames := [][]byte{
		// TCP with AE and SYN, TTL 7, ToS 0xb8, in VLAN 7; then FIN, TTL 9
		unhex(t, macs+"8100 a007 0800 45b8 0028 0000 0000 0706 0000 01020304 05060708 0400 0050 00000001 00000000 5102 ffff 0000 0000"),
		unhex(t, macs+"8100 a007 0800 4500 0030 0000 0000 0906 0000 01020304 05060708 0400 0050 00000001 00000000 5001 ffff 0000 0000 1122334455667788"),
		// UDP over IPv6, class 0x0a, hop limit 3
		unhex(t, macs+"86dd 60a00000 000c 11 03 fd000000000000000000000000000001 fd000000000000000000000000000002 1388 0035 000c 0000 11223344"),
		// ICMP: destination unreachable, port
		unhex(t, macs+"0800 4500 0020 0000 0000 4001 0000 01020304 05060708 0303 0000 00000000 00000000"),
		// for user space: a fragment, an option, another protocol, a tunnel, not IP, cut
		unhex(t, macs+"0800 4500 0020 0001 2000 4011 0000 01020304 05060708 0001 0002 000c 0000 00000000"),
		unhex(t, macs+"0800 4600 0024 0000 0000 4011 0000 01020304 05060708 01010100 0001 0002 000c 0000 00000000"),
		unhex(t, macs+"0800 4500 0018 0000 0000 4084 0000 01020304 05060708 00000000"),
		unhex(t, macs+"0800 4500 0020 0000 0000 4011 0000 01020304 05060708 0001 12b5 000c 0000 00000000"),
		unhex(t, macs+"88b5 0000"),
		unhex(t, macs+"0800 4500 0400 0000 0000 4011 0000 01020304 05060708 0001 0002 03ec 0000 00000000"),
	}
	for i := range frames {
		for len(frames[i]) < 64 {
			frames[i] = append(frames[i], 0)
		}
	}
	l.raw(frames...)
	records, up, book := stop()
	got := map[string]string{}
	for _, r := range records {
		got[fmt.Sprint(r.Proto)] = fmt.Sprintf("%s %d > %s %d vlan %d type %#x icmp %#x: %d packets %d octets %d L2, flags %#x first %#x, ttl %d-%d, tos %#x, len %d-%d, client %d, dir %d, %s > %s, end %d",
			r.Src, r.SrcPort, r.Dst, r.DstPort, r.VLAN, r.EtherType, r.ICMPTypeCode, r.Packets, r.Octets, r.L2Octets, r.TCPFlags, r.FirstTCPFlags, r.MinTTL, r.MaxTTL, r.ToS,
			r.MinLen, r.MaxLen, r.Client, r.Direction, r.SrcMAC, r.DstMAC, r.EndReason)
	}
	const place = "dir 0, 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff, end 4"
	want := map[string]string{
		"6":  "1.2.3.4 1024 > 5.6.7.8 80 vlan 7 type 0x800 icmp 0x0: 2 packets 88 octets 130 L2, flags 0x103 first 0x2, ttl 7-9, tos 0xb8, len 40-48, client 1, " + place,
		"17": "fd00::1 5000 > fd00::2 53 vlan 0 type 0x86dd icmp 0x0: 1 packets 52 octets 66 L2, flags 0x0 first 0x0, ttl 3-3, tos 0xa, len 52-52, client 0, " + place,
		"1":  "1.2.3.4 0 > 5.6.7.8 0 vlan 0 type 0x800 icmp 0x303: 1 packets 32 octets 64 L2, flags 0x0 first 0x0, ttl 64-64, tos 0x0, len 32-32, client 0, " + place,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want, +got)\n%s", diff)
	}
	if len(up) != 6 || book.In != uint64(len(frames)) || book.Out != book.In {
		t.Errorf("%d frames went to user space; %+v", len(up), book)
	}
	for i, f := range up {
		if diff := cmp.Diff(frames[4+i], f.Data); diff != "" {
			t.Errorf("frame %d\n%s", i, diff)
		}
	}
}
