package verdict

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"crosstap/internal/collect/report"
	"crosstap/internal/lab"
	"crosstap/internal/lab/truth"
)

// row returns a conversation from client-2 to web-2, which all three observers of the lab see, as it must be shown.
func row() report.Conversation {
	c := report.Conversation{Proto: "tcp", SrcPort: 40000, DstPort: 80}
	c.Ends = report.Ends{
		Segment: "vxlan:5002", VNI: 5002, Tenant: "green", SrcVTEP: "10.200.0.2", SrcHost: "h2", SrcVM: "client-2", SrcAddr: "10.0.0.3",
		DstAddr: "10.0.0.1", DstVM: "web-2", DstHost: "h1", DstVTEP: "10.200.0.1",
	}
	c.Counts = report.Counts{
		OctetsFwd: 300, PacketsFwd: 5, OctetsRev: 900, PacketsRev: 4, Octets: 1200, Packets: 9, Duplicates: 18,
		SeenBy: []string{"client-2 agent", "h1 mirror", "h2 vtep"},
	}
	return c
}

func sent() truth.Flows {
	src, dst := netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("10.0.0.1")
	return truth.Flows{
		{VNI: 5002, Proto: truth.TCP, Src: src, Dst: dst, SrcPort: 40000, DstPort: 80}: {Packets: 5, Octets: 300},
		{VNI: 5002, Proto: truth.TCP, Src: dst, Dst: src, SrcPort: 80, DstPort: 40000}: {Packets: 4, Octets: 900},
	}
}

func TestJudge(t *testing.T) {
	topology := lab.Default(false, true)
	f := func(change func(c *report.Conversation, p *report.Pair), want string) {
		t.Helper()
		c := row()
		p := report.Pair{Ends: c.Ends, Counts: c.Counts}
		change(&c, &p)
		v, err := Judge(&topology, sent(), []report.Pair{p}, []report.Conversation{c})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := v.Print(&b); err != nil {
			t.Fatal(err)
		}
		if v.OK() != (want == "") || !strings.Contains(b.String(), want) {
			t.Errorf("got %q, want %q", b.String(), want)
		}
	}
	both := func(c *report.Conversation, p *report.Pair, change func(*report.Ends, *report.Counts)) {
		change(&c.Ends, &c.Counts)
		change(&p.Ends, &p.Counts)
	}
	f(func(*report.Conversation, *report.Pair) {}, "")
	f(func(c *report.Conversation, p *report.Pair) {
		both(c, p, func(_ *report.Ends, n *report.Counts) { n.OctetsRev++; n.Octets++ })
	}, "+0 packets, +1 bytes")
	f(func(c *report.Conversation, p *report.Pair) { // the same packets counted for two observers
		both(c, p, func(_ *report.Ends, n *report.Counts) { n.OctetsFwd, n.PacketsFwd = 600, 10 })
	}, "+5 packets, +300 bytes")
	f(func(c *report.Conversation, p *report.Pair) {
		both(c, p, func(e *report.Ends, _ *report.Counts) { e.VNI = 5001 })
	}, "extra")
	f(func(c *report.Conversation, _ *report.Pair) { c.SrcPort = 40001 }, "missing")
	f(func(_ *report.Conversation, p *report.Pair) { p.Octets-- }, "pair vxlan:5002 10.0.0.1 10.0.0.3: 9 packets, 1199 bytes")
	f(func(_ *report.Conversation, p *report.Pair) { p.SrcAddr = "10.0.0.9" }, "is missing: its conversations have 1200 bytes")
	f(func(c *report.Conversation, _ *report.Pair) { c.SeenBy = c.SeenBy[:2] }, `seen by is "client-2 agent, h1 mirror"`)
	f(func(c *report.Conversation, _ *report.Pair) { c.Duplicates = 9 }, `duplicates is "9", want "18"`)
	f(func(c *report.Conversation, _ *report.Pair) { c.Tenant = "blue" }, `tenant is "blue", want "green"`)
	f(func(c *report.Conversation, p *report.Pair) { // the wrong way round
		c.SrcAddr, c.DstAddr, c.SrcVM, c.DstVM, c.SrcVTEP, c.DstVTEP = c.DstAddr, c.SrcAddr, c.DstVM, c.SrcVM, c.DstVTEP, c.SrcVTEP
		c.SrcPort, c.DstPort, c.PacketsFwd, c.PacketsRev, c.OctetsFwd, c.OctetsRev = 80, 40000, 4, 5, 900, 300
	}, `opened by the client is "false"`)
	f(func(c *report.Conversation, _ *report.Pair) { c.SrcVTEP = "" }, `source VTEP is "", want "10.200.0.2"`)
	f(func(c *report.Conversation, _ *report.Pair) { c.DstVM = "web-1" }, `destination VM is "web-1", want "web-2"`)
}

func TestJudgeNothing(t *testing.T) {
	topology := lab.Default(false, true)
	v, err := Judge(&topology, truth.Flows{}, nil, nil)
	if err != nil || v.OK() {
		t.Errorf("nothing sent must be a finding: %+v, %v", v, err)
	}
}

func TestShownSkipsWhatIsNotIP(t *testing.T) {
	got, err := Shown([]report.Conversation{{Proto: "arp"}})
	if err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	c := row()
	c.Proto = "unheard-of"
	if _, err := Shown([]report.Conversation{c}); err == nil {
		t.Error("an unknown protocol must be an error")
	}
}

func TestSplit(t *testing.T) {
	there, back := row(), row()
	back.SrcAddr, back.DstAddr, back.SrcPort, back.DstPort = there.DstAddr, there.SrcAddr, there.DstPort, there.SrcPort
	if got := split([]report.Conversation{there, back}); len(got) != 1 {
		t.Errorf("%v", got)
	}
	other := row()
	other.VNI = 5001
	if got := split([]report.Conversation{there, other}); len(got) != 0 {
		t.Errorf("%v", got)
	}
}
