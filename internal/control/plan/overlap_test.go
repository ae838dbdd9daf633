package plan

import (
	"strings"
	"testing"

	"crosstap/internal/control/platform"
)

// Two taps that bring the same packets to the same tool are told, both of them.
func TestOverlaps(t *testing.T) {
	w := &world{}
	h := w.host("h1", capable)
	w.port(h, "web-1", platform.PortVM, 1)
	w.port(h, "web-2", platform.PortVM, 1)
	w.port(h, "db-1", platform.PortVM, 1)
	const tools = "Destination ids url: 'vxlan://10.9.0.1?vni=1'\nDestination same url: 'vxlan://10.9.0.1:4789?vni=1'\nDestination other url: 'vxlan://10.9.0.1?vni=2'\nDestination tool port: {vm: db-1}\n"
	f := func(a, b string, want ...string) {
		t.Helper()
		p := w.build(t, tools+"Tap a "+a+"\nTap b "+b, func(in *Input) { in.Advise = true })
		var got []string
		for _, tap := range p.Taps {
			for _, text := range tap.Warnings {
				text, _, _ = strings.Cut(text, ":")
				if strings.HasPrefix(text, "tap ") || strings.HasPrefix(text, "nothing ") {
					got = append(got, tap.Name+": "+text)
				}
			}
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s\n%s\ngives\n%s\nwant\n%s", a, b, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	both := []string{"a: tap b copies packets of 2 of the same ports to ids, too", "b: tap a copies packets of 2 of the same ports to ids, too"}
	f("select: 'vm like \"web-%\"', destinations: [ids]", "select: 'vm like \"%\"', destinations: [ids]", both...)
	f("select: 'vm like \"web-%\"', filter: tcp, destinations: [ids]", "select: 'vm like \"%\"', destinations: [ids]", both...)
	f("select: 'vm like \"web-%\"', filter: tcp, destinations: [ids]", "select: 'vm like \"%\"', filter: tcp, destinations: [ids]", both...)
	f("select: 'vm like \"web-%\"', destinations: [ids]", "select: 'vm like \"%\"', destinations: [same]",
		"a: tap b copies packets of 2 of the same ports to same, too", "b: tap a copies packets of 2 of the same ports to ids, too")
	f("select: 'vm like \"web-%\"', filter: tcp, destinations: [ids]", "select: 'vm like \"%\"', filter: udp, destinations: [ids]")
	f("select: 'vm like \"web-%\"', vlans: [1, 2], destinations: [ids]", "select: 'vm like \"%\"', vlans: [3], destinations: [ids]")
	f("select: 'vm like \"web-%\"', direction: ingress, destinations: [ids]", "select: 'vm like \"%\"', direction: egress, destinations: [ids]")
	f("select: 'vm like \"web-%\"', destinations: [ids]", "select: 'vm = db-1', destinations: [ids]")
	f("select: 'vm like \"web-%\"', destinations: [ids]", "select: 'vm like \"web-%\"', destinations: [other]")
	f("select: 'vm like \"web-%\"', destinations: [ids]", "select: 'vm like \"web-%\"', paused: true, destinations: [ids]")
	f("select: 'vm = web-1', destinations: [tool]", "select: 'vm = web-1', destinations: [tool]",
		"a: tap b copies packets of 1 of the same ports to tool, too", "b: tap a copies packets of 1 of the same ports to tool, too")
	f("select: 'vm = wbe-1', destinations: [ids]", "select: 'vm = web-1', destinations: [ids]",
		`a: nothing is copied until such a port appears`)
}

// A selector that finds nothing is told what was probably meant.
func TestNothing(t *testing.T) {
	w := &world{}
	f := func(selects, want string) {
		t.Helper()
		p := w.build(t, "Destination ids url: 'vxlan://10.9.0.1?vni=1'\nTap x select: '"+selects+"', destinations: [ids]", func(in *Input) { in.Advise = true })
		if got := p.Taps[0].Warnings; len(got) != 1 || got[0] != "nothing is copied until such a port appears: "+want {
			t.Errorf("%s: %q\nwant %s", selects, got, want)
		}
	}
	f("vm = web-1", "no machine is known: no platform is named that answers (--platform KIND=ADDRESS, or a Platform resource)")
	h := w.host("h1", capable)
	w.port(h, "web-1", platform.PortVM, 1)
	w.port(h, "web-2", platform.PortVM, 1)
	f("vm = wbe-1", `no port that is known has vm = "wbe-1"; did you mean "web-1"?`)
	f("vm = web-1 and host = h2", `no port that is known has host = "h2"; did you mean "h1"?`)
	f("vm = \"web-*\"", `no port that is known has vm = "web-*"; a pattern is written with like, and % for any letters: vm like "web-%"`)
	f("vm in (mail, dns) and segment = vxlan:1", `no port that is known has vm = "mail"`)
	f("vm like \"mail-%\"", "none of the 2 ports of machines that are known is selected")
	f("vm = web-1 and vm = web-2", "none of the 2 ports of machines that are known is selected")
	f("not vm like \"web-%\"", "none of the 2 ports of machines that are known is selected")
}
