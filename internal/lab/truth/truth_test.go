package truth

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var equal = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func key(vni uint32, proto uint8, src, dst string, sport, dport uint16) Key {
	return Key{VNI: vni, Proto: proto, Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), SrcPort: sport, DstPort: dport}
}

func TestParse(t *testing.T) {
	f := func(line string, want Flows) {
		t.Helper()
		got := Flows{}
		if err := got.parse(strings.NewReader(strings.ReplaceAll(line, " ", "\t")+"\n"), 5001); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, got, equal); diff != "" {
			t.Error(diff)
		}
	}
	f("10.0.0.3 10.0.0.1 6 60      40000 80  ", Flows{key(5001, TCP, "10.0.0.3", "10.0.0.1", 40000, 80): {1, 60}})
	f("10.0.0.3 10.0.0.2 17 61        10053 53", Flows{key(5001, UDP, "10.0.0.3", "10.0.0.2", 10053, 53): {1, 61}})
	f("    fd00::3 fd00::1 58 64     ", Flows{key(5001, ICMPv6, "fd00::3", "fd00::1", 0, 0): {1, 104}})
	f("    fd00::3 fd00::1 44 1456 58    ", Flows{key(5001, ICMPv6, "fd00::3", "fd00::1", 0, 0): {1, 1496}})
	f("    fd00::3 ff02::1:ff00:1 58 32     ", Flows{})                                                        // link-local multicast
	f("10.0.0.2 10.0.0.3 1 89        53 10053", Flows{key(5001, ICMP, "10.0.0.2", "10.0.0.3", 0, 0): {1, 89}}) // quotes a datagram
	f("10.0.0.3 10.0.0.1 17 1500         ", Flows{key(5001, UDP, "10.0.0.3", "10.0.0.1", 0, 0): {1, 1500}})    // later fragment

	bad := func(line string) {
		t.Helper()
		if err := (Flows{}).parse(strings.NewReader(line+"\n"), 5001); err == nil || !strings.HasPrefix(err.Error(), "line 1: ") {
			t.Errorf("%q: %v", line, err)
		}
	}
	bad("10.0.0.3\t10.0.0.1")
	bad(strings.Repeat("\t", 12))
	bad("10.0.0.3\t10.0.0.1\t6" + strings.Repeat("\t", 10))
}

func TestCompare(t *testing.T) {
	a, b, c := key(5001, TCP, "10.0.0.3", "10.0.0.1", 1, 80), key(5001, TCP, "10.0.0.1", "10.0.0.3", 80, 1), key(5002, TCP, "10.0.0.3", "10.0.0.1", 1, 80)
	f := func(sent, got Flows, want []Difference) {
		t.Helper()
		if diff := cmp.Diff(want, Compare(sent, got), equal); diff != "" {
			t.Error(diff)
		}
	}
	f(Flows{a: {1, 60}, b: {1, 60}}, Flows{a: {1, 60}, b: {1, 60}}, nil)
	f(Flows{a: {1, 60}, c: {1, 60}}, Flows{a: {2, 120}}, []Difference{{a, Count{1, 60}, Count{2, 120}}, {c, Count{1, 60}, Count{}}}) // tenants merged
	f(Flows{b: {5, 300}}, Flows{b: {5, 299}, a: {1, 1}}, []Difference{{b, Count{5, 300}, Count{5, 299}}, {a, Count{}, Count{1, 1}}})
	if got := a.String(); got != "5001 tcp 10.0.0.3:1 > 10.0.0.1:80" {
		t.Error(got)
	}
}
