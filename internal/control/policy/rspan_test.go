package policy

import (
	"strings"
	"testing"

	"crosstap/internal/control/platform"
)

// Both ends of mirroring into a VLAN.
func TestRSPAN(t *testing.T) {
	const tap = "apiVersion: crosstap/v1\nkind: Tap\nmetadata: {name: x}\nspec:\n  "
	const dest = "apiVersion: crosstap/v1\nkind: Destination\nmetadata: {name: d}\nspec: "
	set, err := Parse("f", []byte(tap+"from: rspan:99\n  destinations: [d]\n---\n"+dest+"{port: {vm: ids}}\n"))
	if err == nil {
		err = set.Check()
	}
	if err != nil || set.Tap("x").FromVLAN != 99 || set.Tap("x").Chosen() != "rspan:99" {
		t.Errorf("%+v: %v", set, err)
	}
	set, err = Parse("f", []byte(dest+"{url: 'rspan:4094?uplink=dvUplink%201'}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if o := set.Destination("d").Output; o.Encap != platform.EncapVLAN || o.VLAN != 4094 || o.Port != "dvUplink 1" || o.Addr.IsValid() {
		t.Errorf("%+v", o)
	}
	f := func(text, want string) {
		t.Helper()
		set, err := Parse("f", []byte(text))
		if err == nil {
			err = set.Check()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	f(dest+"{url: 'rspan:99'}\n", "copies need an uplink to leave through; write rspan:99?uplink=NAME")
	f(dest+"{url: 'rspan:4095?uplink=a'}\n", `VLAN "4095": must be a number from 1 to 4094`)
	f(dest+"{url: 'rspan:?uplink=a'}\n", `VLAN ""`)
	f(dest+"{url: 'rspan://99?uplink=a'}\n", `VLAN ""`)
	f(dest+"{url: 'rspan:99?uplink=a&vni=1'}\n", `option "vni" is not known of rspan`)
	f(dest+"{url: 'rspan:99?uplink=a&uplink=b'}\n", "known: uplink, once")
	f(tap+"from: erspan:7\n  destinations: [d]\n", "only RSPAN VLANs can be taken from; write it as rspan:99")
	f(tap+"from: rspan:0\n  destinations: [d]\n", "must be a number from 1 to 4094")
	f(tap+"from: rspan:9\n  select: 'vm = a'\n  destinations: [d]\n", "f:6:11: spec.select: there is from too")
	f(tap+"from: rspan:9\n  direction: ingress\n  destinations: [d]\n", "spec.direction: there is from too")
	f(tap+"from: rspan:9\n  method: remote-mirror\n  destinations: [d]\n", "goes to a port by mirror, not remote-mirror")
	f(tap+"from: rspan:9\n  destinations: [d]\n---\n"+dest+"{url: 'gre://10.0.0.1'}\n", "give the tool as port: {vm: NAME}")
	f(tap+"select: 'vm = a'\n  method: mirror\n  destinations: [d]\n---\n"+dest+"{url: 'rspan:9?uplink=a'}\n", "use remote-mirror or auto")
}
