package openflow

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"crosstap/internal/filter"
	"crosstap/internal/frame"
	"crosstap/internal/testkit"
)

func TestFlowText(t *testing.T) {
	f := func(fl Flow, want string) {
		t.Helper()
		if got := fl.String(); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
	f(Flow{Priority: 7, Cookie: 0x10, InPort: "p1", Match: "dl_type=0x0800,nw_proto=6", Actions: []Action{{Output: "t1", MaxLen: 128}, {Output: "t2"}}},
		"cookie=0x10,table=0,priority=7,in_port=p1,dl_type=0x0800,nw_proto=6,actions=output(port=t1,max_len=128),output:t2")
	f(Flow{Table: 1, HardTimeout: 90}, "cookie=0x0,table=1,priority=0,hard_timeout=90,actions=drop")
	f(Flow{Actions: []Action{{StripVLAN: true}, {Goto: 1}}}, "cookie=0x0,table=0,priority=0,actions=strip_vlan,goto_table:1")
	f(Flow{Actions: []Action{{PushVLAN: 99}, {Output: "eth1"}, {StripVLAN: true}}}, "cookie=0x0,table=0,priority=0,actions=push_vlan:0x8100,set_field:4195->vlan_vid,output:eth1,strip_vlan")
	f(Flow{Actions: []Action{{Sample: &Sample{1023, 7, 8, 9}}}}, "cookie=0x0,table=0,priority=0,actions=sample(probability=1023,collector_set_id=7,obs_domain_id=8,obs_point_id=9)")
}

// Bytes written by hand from OpenFlow 1.4, section 7.3.4.1 and 7.2.
func TestEncode(t *testing.T) {
	f := Flow{Table: 1, Priority: 0x0102, Cookie: 0xaabb, HardTimeout: 60, InPort: "p", Match: "dl_type=0x0800,nw_proto=17,nw_dst=10.1.0.0/255.255.0.0,tp_dst=0x1388/0xffff", Actions: []Action{{Output: "t"}, {Goto: 2}}}
	b, err := f.mod(map[string]uint32{"p": 3, "t": 5})
	want := "000000000000aabb" + "0000000000000000" + "01" + "00" + "0000" + "003c" + "0102" + "ffffffff" + "ffffffff" + "ffffffff" + "0000" + "0000" +
		"0001" + "0029" + "80000004" + "00000003" + "80000a02" + "0800" + "80001401" + "11" + "80001908" + "0a010000" + "ffff0000" + "80002002" + "1388" + "00000000000000" +
		"0004" + "0018" + "00000000" + "0000" + "0010" + "00000005" + "ffff" + "000000000000" +
		"0001" + "0008" + "02" + "000000"
	if got := hex.EncodeToString(b); err != nil || got != want {
		t.Errorf("%v\n%s\n%s", err, got, want)
	}
	tag, err := Action{PushVLAN: 99}.encode(nil)
	if got := hex.EncodeToString(tag); err != nil || got != "0011"+"0008"+"8100"+"0000"+"0019"+"0010"+"80000c02"+"1063"+"000000000000" {
		t.Errorf("%v\n%s", err, got)
	}
	for _, bad := range []string{"nosuch=1", "dl_type=x", "tp_dst=5", "dl_src=zz", "nw_src=fd00::1"} {
		if _, err := encodeMatch(bad); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	if _, err := f.mod(nil); err == nil || !strings.Contains(err.Error(), "port p is not on the bridge") {
		t.Errorf("%v", err)
	}
}

// Every match that filters make can be encoded, and ovs-ofctl takes its text.
func TestFiltersEncode(t *testing.T) {
	ofctl := testkit.Tool(t, "ovs-ofctl")
	for _, expr := range []string{
		"", "tcp port 443", "udp portrange 5000-5100", "host 10.1.0.5 and not port 22", "ip6 host fd00::1 and tcp", "vlan 10 and icmp", "arp", "net 10.0.0.0/8 and sctp",
		"ether host 02:00:00:00:00:01", "tcp[tcpflags] & tcp-syn != 0", "icmp[icmptype] = icmp-echo", "icmp6", "ip proto 47", "not ip",
	} {
		f, err := filter.Compile(expr, frame.LinkEthernet, filter.Options{})
		if err != nil {
			t.Fatal(err)
		}
		entries, _, err := f.OpenFlow()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if _, err := encodeMatch(e.Match()); err != nil {
				t.Errorf("%s: %v", expr, err)
			}
			text := Flow{Priority: uint16(e.Priority), InPort: "1", Match: e.Match(), Actions: []Action{{Output: "2"}}}.String()
			if out, err := exec.Command(ofctl, "-O", "OpenFlow14", "parse-flow", text).CombinedOutput(); err != nil {
				t.Errorf("%s: %s: %s", expr, text, out)
			}
		}
	}
}

func FuzzCount(f *testing.F) {
	f.Add(make([]byte, 56))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		_ = count(slices.Clone(b), map[uint64]Count{}, &n)
	})
}

// said is a peer that says some bytes and takes everything.
type said struct {
	net.Conn
	in *bytes.Reader
}

func (s said) Read(b []byte) (int, error)  { return s.in.Read(b) }
func (s said) Write(b []byte) (int, error) { return len(b), nil }
func (s said) SetDeadline(time.Time) error { return nil }
func (s said) Close() error                { return nil }

// A switch that may say anything: each exchange ends, and none takes more than the peer has sent.
func FuzzSession(f *testing.F) {
	stats := append([]byte{5, typeMultipartReply, 0, 72, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 56}, make([]byte, 54)...)
	f.Add(stats)
	f.Add([]byte{5, typeEchoRequest, 0, 8, 0, 0, 0, 1, 5, typeError, 0, 12, 0, 0, 0, 2, 0, 1, 0, 2})
	f.Add([]byte{5, typeBundleControl, 0, 8, 0, 0, 0, 1, 5, typeBundleControl, 0, 8, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		open := func() *Conn {
			in := bytes.NewReader(b)
			return &Conn{c: said{in: in}, r: bufio.NewReader(in)}
		}
		ctx := t.Context()
		_, _ = open().Counts(ctx)
		_, _ = open().PortCounts(ctx, 1)
		_ = open().SendOut(1, []byte{1, 2, 3})
		_ = open().Barrier(ctx)
		_ = open().Replace(ctx, 1, 1, []Flow{{InPort: "a", Match: "dl_type=0x0800", Actions: []Action{{Output: "a"}}}}, map[string]uint32{"a": 1})
	})
}

// A match is what a filter's back end writes; of anything else none is made.
func FuzzMatch(f *testing.F) {
	f.Add("dl_type=0x0800,nw_proto=6,tp_dst=0x50/0xffff")
	f.Add("dl_src=02:00:00:00:00:01,vlan_tci=0x1000/0x1000")
	f.Add("ipv6_src=2001:db8::/32,nw_proto=17,tp_src=53")
	f.Fuzz(func(t *testing.T, text string) {
		b, err := encodeMatch(text)
		if err != nil {
			return
		}
		for len(b) > 0 { // OXM fields: class, field and mask, length
			const header = 4
			if len(b) < header || len(b) < header+int(b[3]) {
				t.Fatalf("%q: a field of %d bytes ends in its middle", text, len(b))
			}
			b = b[header+int(b[3]):]
		}
	})
}

func TestDialNobody(t *testing.T) {
	if _, err := Dial(t.Context(), "unix", filepath.Join(t.TempDir(), "x.mgmt"), nil); err == nil {
		t.Error("connected")
	}
}
