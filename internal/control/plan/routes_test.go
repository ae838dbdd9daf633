package plan

import (
	"net/netip"
	"strings"
	"testing"

	"crosstap/internal/control/platform"
	"crosstap/internal/route"
)

// TestRoutes wants a plan to tell of tools that packets of a host do not get to, and what fits on the way to the others; and nothing where routes are not known.
func TestRoutes(t *testing.T) {
	to := netip.MustParsePrefix
	near := route.Route{To: to("10.0.0.0/24"), Dev: "eth0", MTU: 1500}
	for _, c := range []struct {
		routes  *route.Table
		url     string
		want    string // part of a warning; "" for none
		path    int    // MTU that the plan tells; 0 for none
		choices string
	}{
		{nil, "vxlan://10.0.0.9?vni=1", "path's MTU of 1500", 1500, ""},
		{&route.Table{}, "vxlan://10.0.0.9?vni=1", "host h1 has no route to 10.0.0.9 (destination ids): its copies are lost", 0, ""},
		{&route.Table{Routes: []route.Route{near}}, "vxlan://10.0.1.9?vni=1", "host h1 has no route to 10.0.1.9", 0, ""},
		{&route.Table{Routes: []route.Route{{To: to("0.0.0.0/0"), Kind: route.Refused}}}, "vxlan://10.0.0.9?vni=1", "host h1 refuses packets to 10.0.0.9 (destination ids) by its route to 0.0.0.0/0", 0, ""},
		{&route.Table{Routes: []route.Route{{To: to("10.0.0.9/32"), Kind: route.Local, Dev: "lo", MTU: 65536}}}, "vxlan://10.0.0.9?vni=1", "10.0.0.9 (destination ids) is an address of host h1 itself", 0, ""},
		{&route.Table{Routes: []route.Route{{To: to("10.0.0.9/32"), Kind: route.Local, Dev: "lo", MTU: 65536}}}, "ipfix://10.0.0.9", "", 0, "method: flows-only, "},
		{&route.Table{}, "ipfix://10.0.0.9", "host h1 has no route to 10.0.0.9 (destination ids): its flow records are lost", 0, "method: flows-only, "},
		{&route.Table{Routes: []route.Route{near}}, "vxlan://10.0.0.9?vni=1", "path's MTU of 1500", 1500, ""},
		{&route.Table{Routes: []route.Route{near, {To: to("10.0.0.9/32"), Dev: "wg0", MTU: 1420}}}, "vxlan://10.0.0.9?vni=1", "path's MTU of 1420", 1420, ""},
		{&route.Table{Routes: []route.Route{{To: to("10.0.0.0/24"), Dev: "eth0", MTU: 9000}}}, "vxlan://10.0.0.9?vni=1", "", 0, ""},
	} {
		w := &world{}
		h := w.host("h1", capable)
		w.port(h, "a", platform.PortVM, 1)
		h.Hosts["h1"].Routing = c.routes
		p := w.build(t, "Destination ids url: '"+c.url+"'\nTap x destinations: [ids], "+c.choices+"select: 'vm = a'")
		said, path := strings.Join(p.Taps[0].Warnings, "\n"), 0
		for _, m := range p.Taps[0].MTU {
			path = m.Path
		}
		if len(p.Refusals) > 0 || p.Taps[0].State != Active || !strings.Contains(said, c.want) || c.want == "" && said != "" || path != c.path {
			t.Errorf("%s by %+v: %q, path %d; want %q, path %d; %+v", c.url, c.routes, said, path, c.want, c.path, p.Refusals)
		}
	}
}
