package plan

import (
	"encoding/json"
	"strings"
	"testing"

	"crosstap/internal/control/platform"
	"crosstap/internal/flow"
)

// What a tap takes from a VLAN comes to its tools, and to nobody else's.
func TestFromVLAN(t *testing.T) {
	lands := capable
	lands.FromVLAN = true
	lands.Encaps = append(lands.Encaps, platform.EncapVLAN)
	w := &world{}
	h1, h2, old := w.host("h1", lands), w.host("h2", lands), w.host("old", capable)
	w.port(h1, "web", platform.PortVM, 1)
	w.port(h2, "ids", platform.PortVM, 1)
	w.port(h2, "busy", platform.PortVM, 1).VLAN = 10
	w.port(old, "lone", platform.PortVM, 1)
	const more = `
Destination ids port: {vm: ids}
Destination lone port: {vm: lone}
Destination nobody port: {vm: nobody}
Destination out url: 'rspan:99?uplink=eth9'
Destination blues port: {vm: ids}, tenant: blue
Tenant blue segments: ['vxlan:1']
`
	f := func(taps, want, why, message string) *Plan {
		t.Helper()
		p := w.build(t, more+taps)
		got := ""
		for _, name := range sortedKeys(p.Want) {
			for _, s := range p.Want[name].Sessions {
				s.Mark = platform.Mark{Part: s.Mark.Part}
				b, err := json.Marshal(struct {
					Part, Host, Switch string
					Sources            []platform.Source
					VLANs              []uint16
					Port               string
					VLAN               uint16
				}{s.Mark.Part, s.Host, s.Switch, s.Sources, s.VLANs, s.Outputs[0].Port, s.Outputs[0].VLAN})
				if err != nil {
					t.Fatal(err)
				}
				got += string(s.Method) + " " + string(b) + "\n"
			}
		}
		if got != want || reasons(p) != why {
			t.Errorf("%s:\n%s%s\nwant\n%s%s\n%+v", taps, got, reasons(p), want, why, p.Refusals)
		}
		if message != "" && (len(p.Refusals) == 0 || !strings.Contains(p.Refusals[0].Message+"; "+p.Refusals[0].Fix, message)) {
			t.Errorf("%s: %+v\nwant %s", taps, p.Refusals, message)
		}
		return p
	}
	const out = `remote-mirror {"Part":"br.h1.remote","Host":"h1","Switch":"br","Sources":[{"port":"p-web","dir":"both"}],"VLANs":null,"Port":"eth9","VLAN":99}` + "\n"
	const in = `mirror {"Part":"br.h2.ids","Host":"h2","Switch":"br","Sources":null,"VLANs":[99],"Port":"p-ids","VLAN":0}` + "\n"
	p := f("Tap from destinations: [out], select: 'vm = web'\nTap to from: 'rspan:99', destinations: [ids]", out+in, "", "")
	if to := p.Taps[1]; to.State != Active || to.Select != "rspan:99" || to.From != "rspan:99" || to.Ports != 0 || to.Places[0].Count != 0 || len(to.Places[0].Ports) != 0 || len(p.Taps[0].MTU) > 0 {
		t.Errorf("%+v", p.Taps)
	}
	f("Tap to from: 'rspan:99', destinations: [nobody]", "", "capability", "destination nobody (vm nobody) has no port anywhere")
	f("Tap to from: 'rspan:99', destinations: [lone]", "", "capability p-lone", "switch br of host old cannot take copies out of a VLAN; give the tool's adapter VLAN 99 itself")
	f("Tap to from: 'rspan:10', destinations: [ids]", "", "foreign-tenant p-ids", "VLAN 10 is that of port p-busy (machine busy) on switch br")
	f("Tap to from: 'rspan:99', destinations: [blues]", "", "foreign-tenant p-ids", "may be anybody's, and destination blues is tenant blue's")
	f("Tap to from: 'rspan:99', destinations: [blues], allow: [other-tenants]", strings.Replace(in, "h2.ids", "h2.blues", 1), "", "")
	f("Tap to from: 'rspan:99', destinations: [ids], paused: true", "", "", "")
	// the tool's machine is no source of others, before its copies come and after
	f("Tap from destinations: [out], select: 'vm in (web, ids)'\nTap to from: 'rspan:99', destinations: [ids]", out+in, "destination-tapped p-ids", "machine ids is a destination of tap to")
	f("Tap x destinations: [out], select: 'vm = lone'", "", "capability p-lone", "cannot put copies into VLAN 99 (RSPAN); use what it can: ")
	f("Tap x destinations: [out], select: 'vm = lone'", "", "capability p-lone", "ip link add link eth9 name eth9.99 type vlan id 99) and write url: iface:eth9.99")

	// on a switch of many hosts it goes with the tool's machine
	s := platform.NewSnapshot("vc")
	s.Switches["dvs"] = &platform.Switch{ID: "dvs", Name: "dvs", Kind: platform.SwitchDistributed, Hosts: []string{"e1", "e2"}, Can: lands}
	for _, h := range []string{"e1", "e2"} {
		s.Hosts[h] = &platform.Host{ID: h, Name: h}
	}
	s.VMs["ids"] = &platform.VM{ID: "ids", Name: "ids", Host: "e2"}
	s.Ports["p-ids"] = &platform.Port{ID: "p-ids", Name: "7", Kind: platform.PortMirror, Host: "e2", Switch: "dvs", VM: "ids", MAC: 1}
	w.snaps = []*platform.Snapshot{s}
	f("Tap to from: 'rspan:99', destinations: [ids]", `mirror {"Part":"dvs.ids","Host":"","Switch":"dvs","Sources":null,"VLANs":[99],"Port":"p-ids","VLAN":0}`+"\n", "", "")
	s.Ports["p-2"] = &platform.Port{ID: "p-2", Name: "8", Kind: platform.PortVM, Host: "e1", Switch: "dvs", VM: "ids", MAC: 2}
	f("Tap to from: 'rspan:99', destinations: [ids]", "", "conflict 7, conflict 8", "has 2 ports on switch dvs")
}

// No tap copies what another brings to its tool: neither to a port nor to an address; and where a tool has no port it is said where it has one.
func TestOthersTools(t *testing.T) {
	w := &world{}
	h1, h2 := w.host("h1", capable), w.host("h2", capable)
	w.port(h1, "web", platform.PortVM, 1)
	w.port(h2, "db", platform.PortVM, 1)
	w.port(h1, "tap", platform.PortVM, 1)
	w.port(h2, "far", platform.PortVM, 1).Addrs = []flow.Addr{flow.V4([]byte{10, 0, 0, 9})}
	const local = "Destination local port: {vm: tap}\nDestination back url: 'gre://10.0.0.8?key=1'\n"
	f := func(taps, want, why string) *Plan {
		t.Helper()
		p := w.build(t, ids+local+taps)
		if text(p) != want || reasons(p) != why {
			t.Errorf("%s:\n%s\n%s\nwant\n%s\n%s\n%+v", taps, text(p), reasons(p), want, why, p.Refusals)
		}
		return p
	}
	f("Tap a destinations: [local], select: 'vm = web'\nTap b destinations: [back], select: 'vm in (tap, web)'", "h1: web↕ > local\nh1: web↕ > back", "destination-tapped p-tap")
	f("Tap a destinations: [ids], select: 'vm = web'\nTap b destinations: [back], select: 'vm in (db, far)'", "h1: web↕ > ids\nh2: db↕ > back", "destination-tapped p-far")
	f("Tap a destinations: [ids], select: 'vm = web', paused: true\nTap b destinations: [back], select: 'vm in (db, far)'", "h2: db↕ far↕ > back", "")
	p := f("Tap a destinations: [local], select: 'vm = db'", "", "capability p-db")
	if m := p.Refusals[0].Message; m != "destination local (vm tap) has no port on switch br of host h2; it has one on br of host h1" {
		t.Error(m)
	}
	// a port that carries copies already is still the tool's
	h1.Ports["p-tap"].Kind = platform.PortMirror
	h1.Objects["m"] = &platform.Object{ID: "m", Kind: "mirror session", Outputs: []string{"p-tap"}, Mark: platform.Mark{Owner: "crosstap", Policy: "a"}}
	f("Tap a destinations: [local], select: 'vm = web'", "h1: web↕ > local", "")
}

// Uplinks that copies pass on their way are no sources: those of the host that they leave, also when both taps are new, and of the host where
// the tool is.
func TestUplinksOfCopies(t *testing.T) {
	w := &world{}
	h1, h2, h3 := w.host("h1", capable), w.host("h2", capable), w.host("h3", capable)
	for _, h := range []*platform.Snapshot{h1, h2, h3} {
		w.port(h, "eth-"+h.Platform, platform.PortUplink, 0)
		w.port(h, "spy-"+h.Platform, platform.PortVM, 1)
	}
	w.port(h1, "web", platform.PortVM, 1)
	w.port(h2, "far", platform.PortVM, 1).Addrs = []flow.Addr{flow.V4([]byte{10, 0, 0, 9})}
	f := func(taps, want, why string) {
		t.Helper()
		p := w.build(t, ids+"Destination spy port: {vm: spy-h1}\nDestination spy2 port: {vm: spy-h2}\nDestination spy3 port: {vm: spy-h3}\n"+taps)
		if text(p) != want || reasons(p) != why {
			t.Errorf("%s:\n%s\n%s\nwant\n%s\n%s\n%+v", taps, text(p), reasons(p), want, why, p.Refusals)
		}
	}
	const web = "\nTap web destinations: [ids], select: 'vm = web'"
	f("Tap a destinations: [spy], allow: [uplinks], select: 'port = p-eth-h1'", "h1: eth-h1↕ > spy", "")
	f("Tap a destinations: [spy], allow: [uplinks], select: 'port = p-eth-h1'"+web, "h1: web↕ > ids", "loop p-eth-h1")
	f("Tap a destinations: [spy2], allow: [uplinks], select: 'port = p-eth-h2'"+web, "h1: web↕ > ids", "loop p-eth-h2")
	f("Tap a destinations: [spy3], allow: [uplinks], select: 'port = p-eth-h3'"+web, "h1: web↕ > ids\nh3: eth-h3↕ > spy3", "")
	h3.Hosts["h3"].Addrs = []flow.Addr{flow.V4([]byte{10, 0, 0, 9})}
	f("Tap a destinations: [spy3], allow: [uplinks], select: 'port = p-eth-h3'"+web, "h1: web↕ > ids", "loop p-eth-h3")
}
