package tap

import (
	"strings"
	"testing"

	"crosstap/internal/tapspec"
)

// What a plan says of the way of frames is known without the host that they are on.
func TestPathOf(t *testing.T) {
	f := func(d tapspec.Spec, want string) {
		t.Helper()
		d.Name, d.Source.Interfaces = "web", []string{"not-here0"}
		if got := PathOf(&d); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%q, want %q", got, want)
		}
	}
	to := func(urls ...string) (out []tapspec.To) {
		for _, u := range urls {
			out = append(out, tapspec.To{URL: u})
		}
		return out
	}
	const tool = "vxlan://192.0.2.9?vni=7"
	f(tapspec.Spec{To: to(tool), Filter: "tcp port 443"}, "tcx: copies that are filtered or sampled")
	f(tapspec.Spec{To: to(tool), Groom: "sample=1:10"}, "tcx: copies that are filtered or sampled")
	f(tapspec.Spec{To: to(tool)}, "ring: everything is wanted")
	f(tapspec.Spec{To: to(tool), Groom: "dedup=50ms"}, "ring: "+tool+": ")
	f(tapspec.Spec{To: to("ipfix://192.0.2.8")}, "ring: flow records")
	f(tapspec.Spec{To: to(tool), Filter: `payload regex "GET /"`}, "ring: the filter has tests that no kernel program can do")
	f(tapspec.Spec{To: to("pcapng:/nowhere/a.pcapng")}, "ring: whole frames")
	f(tapspec.Spec{To: to("vxlan://")}, "") // no such tap: another place tells why
}
