package deliver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
	"crosstap/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func record() flow.Record {
	addr := func(s string) flow.Addr { return flow.FromNetip(netip.MustParseAddr(s)) }
	return flow.Record{
		StartNS: 1_700_000_000_123_456_789, EndNS: 1_700_000_001_000_000_000, Domain: 7, Point: 1, InIf: 3, Direction: 0, Role: flow.RoleTunnel,
		EndReason: flow.EndDetected, Marks: flow.MarkTruncated | flow.MarkFragments | flow.MarkCanonical, Proto: 6, ToS: 8, MinTTL: 63, MaxTTL: 64,
		TCPFlags: 0x1b, SrcPort: 40000, DstPort: 443, EtherType: 0x86dd, VLAN: 12, Src: addr("fd00::1"), Dst: addr("fd00::2"),
		SrcMAC: 0x020000000001, DstMAC: 0x020000000002, Segment: flow.NewSegment(flow.KindVXLAN, 5001),
		Tunnel:  flow.Tunnel{Src: addr("192.0.2.1"), Dst: addr("192.0.2.2"), SrcPort: 50000, DstPort: 4789, Proto: 17, Type: 1},
		Packets: 3, Octets: 300, L2Octets: 342, Observer: "h1 uplink",
		MinLen: 60, MaxLen: 1500, InnerVLAN: 13, SrcVIF: 5, DstVIF: 6, MPLS: 16, Fragments: 1, RTTUS: 1500, Retransmits: 2, ZeroWindows: 1,
		FirstTCPFlags: 2, App: "https", AppHow: flow.AppTLS, AppName: "www.example.org", Client: flow.ClientSrc, InIfName: "vnet3",
	}
}

func TestLines(t *testing.T) {
	var b bytes.Buffer
	l := NewLines(&b)
	in := make(chan []flow.Record, 2)
	in <- []flow.Record{record()}
	in <- []flow.Record{{Proto: 1, ICMPTypeCode: 0x0800, Direction: 255, Sampling: 10}, {Proto: 200, StartNS: -1 << 62}}
	close(in)
	if err := l.Run(context.Background(), in); err != nil {
		t.Fatal(err)
	}
	want := `{"start":"2023-11-14T22:13:20.123456789Z","end":"2023-11-14T22:13:21Z","domain":7,"point":1,"observer":"h1 uplink","role":"tunnel",` +
		`"direction":"ingress","segment":"vxlan:5001","vni":5001,"src_vtep":"192.0.2.1","dst_vtep":"192.0.2.2","src_addr":"fd00::1","dst_addr":"fd00::2",` +
		`"src_port":40000,"dst_port":443,"proto":"tcp","src_mac":"02:00:00:00:00:01","dst_mac":"02:00:00:00:00:02","vlan":12,"ethertype":34525,"tos":8,` +
		`"min_ttl":63,"max_ttl":64,"tcp_flags":"SAPF","icmp":"","in_if":3,"out_if":0,"packets":3,"octets":300,"l2_octets":342,"sampling":1,` +
		`"end_reason":"detected","marks":["truncated","fragments"],` +
		`"app":"https","app_how":"tls","app_name":"www.example.org","client":"src","reverse":false,"min_len":60,"max_len":1500,"fragments":1,` +
		`"first_tcp_flags":"S","rtt_us":1500,"retransmits":2,"zero_windows":1,"inner_vlan":13,"mpls":16,"src_vif":5,"dst_vif":6,` +
		`"outer_src_port":50000,"outer_dst_port":4789,"outer_proto":"udp","in_if_name":"vnet3","out_if_name":""}`
	lines := strings.Split(b.String(), "\n")
	if diff := cmp.Diff(want, lines[0]); diff != "" || len(lines) != 4 {
		t.Errorf("%d lines\n%s", len(lines), diff)
	}
	if !strings.Contains(lines[1], `"proto":"icmp"`) || !strings.Contains(lines[1], `"icmp":"8/0"`) || !strings.Contains(lines[1], `"direction":""`) ||
		!strings.Contains(lines[1], `"sampling":10`) || !strings.Contains(lines[1], `"outer_proto":""`) || !strings.Contains(lines[2], `"proto":"200"`) {
		t.Error(lines[1:])
	}
	if s := l.Book().Read(); s.Balance() != nil || s.Out != 3 {
		t.Errorf("%+v", s)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("the reader is gone") }

func TestLinesFails(t *testing.T) {
	in := make(chan []flow.Record, 1)
	in <- make([]flow.Record, 1000)
	l := NewLines(broken{})
	if err := l.Run(context.Background(), in); err == nil || err.Error() != "deliver: flows: the reader is gone" {
		t.Error(err)
	}
	if err := l.Book().Read().Balance(); err != nil {
		t.Error(err)
	}
}

// TestLinesBesideOthers has standard output first stuck and then closed while other destinations go on: nothing waits for it, and every record is accounted for.
func TestLinesBesideOthers(t *testing.T) {
	r, w := io.Pipe()
	l := NewLines(w)
	l.Alone, l.Wait = false, false
	in, done := make(chan []flow.Record), make(chan error, 1)
	go func() { done <- l.Run(t.Context(), in) }()
	n := 0
	for n < 100 || l.Book().Read().Dropped[dropLinesFull].N == 0 {
		in <- []flow.Record{record(), record()} // nobody reads
		n++
	}
	r.CloseWithError(syscall.EPIPE)
	for l.Book().Read().Dropped[dropLinesWrite].N == 0 {
		in <- []flow.Record{record(), record()}
		n++
	}
	close(in)
	if err := <-done; err != nil {
		t.Error(err)
	}
	s, x := l.Book().Read(), l.Trouble()
	if s.Balance() != nil || s.Held != 0 || s.In != uint64(2*n) || s.Out != 0 || !errors.Is(x.Err, syscall.EPIPE) || !x.Recovered.IsZero() {
		t.Errorf("%d records, %+v, %+v", 2*n, s, x)
	}
}

func TestNull(t *testing.T) {
	in := make(chan []flow.Record, 1)
	in <- make([]flow.Record, 5)
	close(in)
	n := NewNull()
	if err := n.Run(context.Background(), in); err != nil || n.Book().Read().Out != 5 {
		t.Errorf("%v, %+v", err, n.Book().Read())
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := n.Run(ctx, make(chan []flow.Record)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
