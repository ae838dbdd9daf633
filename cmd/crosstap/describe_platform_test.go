//go:build !agent

package main

import (
	"strings"
	"testing"

	"crosstap/internal/control/platform"
	"crosstap/internal/serve/controlapi"
)

// A record is found by any of its names, and says how it belongs to others.
func TestDescribeRecords(t *testing.T) {
	inv := &controlapi.Platform{
		Name: "kvm", Hosts: []controlapi.Host{{Host: platform.Host{ID: "h", Name: "kvm-1"}, Addrs: []string{"10.0.0.1"}}},
		Switches: []platform.Switch{{ID: "s", Name: "br-int", Kind: platform.SwitchOVS, Hosts: []string{"h"}, Can: platform.Capability{Methods: []platform.Method{platform.MethodMirror}, Slice: true}}},
		VMs:      []platform.VM{{ID: "v", Name: "web-1", Host: "h"}},
		Ports: []controlapi.Port{
			{Port: platform.Port{ID: "p", Name: "vnet1", Kind: platform.PortVM, Host: "h", Switch: "s", VM: "v", Up: true, RxBytes: 2000}, MAC: "02:00:00:00:00:01", VMName: "web-1"},
			{Port: platform.Port{ID: "q", Name: "vnet9", Kind: platform.PortMirror, Host: "h", Switch: "s"}},
		},
		Objects: []platform.Object{{
			ID: "m", Name: "crosstap-web", Kind: "Mirror", Host: "h", Switch: "s", Mark: platform.Mark{Owner: "crosstap", Policy: "web"},
			Sources: []platform.Source{{Port: "p", Dir: platform.Ingress}}, Outputs: []string{"q"},
		}},
	}
	f := func(kind, name string, want ...string) {
		t.Helper()
		d := describer{Platform: inv, hosts: hostNames(inv), name: name}
		var out strings.Builder
		for _, p := range d.pages(kind) {
			p.print(&out)
		}
		text := strings.Join(strings.Fields(out.String()), " ")
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s %s: no %q in %s", kind, name, w, text)
			}
		}
		if len(want) == 0 && text != "" {
			t.Errorf("%s %s: %s", kind, name, text)
		}
	}
	f("platforms", "kvm", "Machines web-1", "Ports 1 mirror, 1 vm", "Objects 1 crosstap")
	f("hosts", "kvm-1", "State up", "Switch br-int (ovs)", "Machines web-1")
	f("switches", "br-int", "Copies by mirror", "Can no filter, cuts copies", "Port vnet1 (vm) web-1", "Object Mirror crosstap-web")
	f("ports", "02:00:00:00:00:01", "port vnet1", "Bytes 2.00 kB into the switch, 0 B out of it", "Copied ingress by Mirror crosstap-web (tap web)")
	f("ports", "vnet9", "Carries copies of Mirror crosstap-web (tap web)")
	f("mirrors", "web", "Whose tap web, crosstap", "Copies vnet1 web-1, ingress", "To vnet9")
	f("mirrors", "nobody")
}
