package tapspec

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseInline(t *testing.T) {
	f := func(text string, want Inline) {
		t.Helper()
		got, err := ParseInline(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			return
		}
		if diff := cmp.Diff(want, *got); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
		if again, err := ParseInline(got.String()); err != nil || *again != *got {
			t.Errorf("%s is written as %s: %v", text, got, err)
		}
	}
	f("eth1,eth2", Inline{A: "eth1", B: "eth2"})
	f("enp1s0f0.5,br-x/fail=closed/lease=1500ms/links=apart", Inline{A: "enp1s0f0.5", B: "br-x", Fail: "closed", Lease: Duration(1500 * time.Millisecond), Links: "apart"})
	f("a,b/links=together/fail=open", Inline{A: "a", B: "b", Fail: "open", Links: "together"})
	bad := func(text, want string) {
		t.Helper()
		if got, err := ParseInline(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v, want %q", text, got, err, want)
		}
	}
	bad("", "two interfaces")
	bad("eth1", "two interfaces")
	bad("eth1,", "two interfaces")
	bad("a,b,c", "two interfaces")
	bad("a,a", "two interfaces")
	bad("a,b/fail=maybe", "open or closed")
	bad("a,b/fail=open/fail=open", "twice")
	bad("a,b/fail", "no value")
	bad("a,b/links=loose", "together or apart")
	bad("a,b/lease=1ms", "1s to 10m0s")
	bad("a,b/lease=soon", "no time span")
	bad("a,b/speed=9", "want fail=open|closed")
}

// A document with an inline pair, and with a path; what goes with neither is a mistake.
func TestInlineDocument(t *testing.T) {
	got, err := ParseYAML([]byte("name: wire\nsource:\n  inline: {a: eth1, b: eth2, fail: closed, lease: 2s}\n  path: ring\nto: [{url: 'null:'}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := Source{Inline: &Inline{A: "eth1", B: "eth2", Fail: "closed", Lease: Duration(2 * time.Second)}, Path: "ring"}
	if diff := cmp.Diff(want, got[0].Source); diff != "" || !got[0].Source.Inline.Closed() || got[0].Source.Inline.Apart() {
		t.Error(diff)
	}
	text, err := toYAML(got)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ParseYAML(text); err != nil || !cmp.Equal(again, got) {
		t.Errorf("%s: %v", text, err)
	}
	bad := func(source, want string) {
		t.Helper()
		if _, err := ParseYAML([]byte("name: x\nsource: {" + source + "}\nto: [{url: 'null:'}]\n")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", source, err, want)
		}
	}
	bad("inline: {a: x}", "two interfaces")
	bad("inline: {a: x, b: y}, interfaces: [z]", "interfaces and inline at once")
	bad("inline: {a: x, b: y}, ingress_only: true", "not for an inline pair")
	bad("inline: {a: x, b: y, speed: 1}", "speed")
	bad("interfaces: [x], path: fast", `path "fast": want auto, tcx, clsact, ring`)
	bad("listen: ['vxlan://'], path: tcx", "it is for interfaces of the host")
}
