package route

import (
	"net/netip"
	"testing"
)

func TestWay(t *testing.T) {
	to := netip.MustParsePrefix
	r := &Table{Routes: []Route{
		{To: to("0.0.0.0/0"), Dev: "wan", Metric: 100},
		{To: to("0.0.0.0/0"), Dev: "lte", Metric: 700},
		{To: to("10.0.0.0/8"), Kind: Refused},
		{To: to("10.9.0.0/24"), Dev: "eth0"},
		{To: to("10.9.0.0/24"), Dev: "eth1", Metric: 10},
		{To: to("10.9.0.1/32"), Kind: Local, Dev: "lo"},
		{To: to("10.9.0.0/24"), Dev: "second"},
		{To: to("127.0.0.0/8"), Kind: Local, Dev: "lo"},
		{To: to("127.0.0.7/32"), Dev: "eth0"}, // main is asked after local
		{To: to("2001:db8::/32"), Dev: "six"},
	}}
	for addr, want := range map[string]string{
		"192.0.2.1": "wan", "10.9.0.9": "eth0", "10.9.0.1": "local", "10.8.0.1": "refused", "127.0.0.7": "local", "2001:db8::9": "six", "2001:db9::9": "none",
		"::ffff:10.9.0.9": "eth0",
	} {
		way, ok := r.Way(netip.MustParseAddr(addr))
		got := way.Dev
		if way.Kind != "" {
			got = string(way.Kind)
		}
		if !ok {
			got = "none"
		}
		if got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
	if _, ok := (&Table{}).Way(netip.MustParseAddr("192.0.2.1")); ok {
		t.Error("a way without a route")
	}
}
