package policy

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/control/platform"
	"crosstap/internal/flow"
)

const whole = `# who talks to the database
apiVersion: crosstap/v1
kind: Tap
metadata:
  name: blue-db
  owner: alice
  reason: INC-4711
  labels: {team: dba}
spec:
  select: 'tenant = "blue" and vm like "db-%"'
  exclude: {vms: [db-test-*]}
  method: remote-mirror
  direction: ingress
  filter: tcp port 5432
  vlans: [20, 10, 10]
  slice: 128
  destinations: [ids-1]
  budget: {mirror: 200Mbit/s, cpu: 3%, onExceed: warn}
  ttl: 4h
  lease: 90s
  drift: report
  tenant: blue
  allow: [cut-copies]
---
apiVersion: crosstap/v1
kind: Destination
metadata: {name: ids-1}
spec: {url: "vxlan://10.0.0.9:4790?vni=9001&dscp=8", mtu: 9000}
---
apiVersion: crosstap/v1
kind: Tenant
metadata: {name: blue}
spec: {segments: ["vxlan:5001", "vlan:10"]}
---
apiVersion: crosstap/v1
kind: Platform
metadata: {name: kvm-1}
spec: {kind: ovs, address: "unix:/run/openvswitch/db.sock", segments: {br-int/10: "vxlan:5001"}}
`

func TestParse(t *testing.T) {
	set, err := Parse("f.yaml", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	if err := set.Check(); err != nil {
		t.Error(err)
	}
	tap, d := set.Tap("blue-db"), set.Destination("ids-1")
	if tap == nil || d == nil {
		t.Fatalf("%+v", set)
	}
	if tap.Owner != "alice" || tap.Meta.Reason != "INC-4711" || tap.Labels["team"] != "dba" || tap.Method != platform.MethodRemoteMirror ||
		tap.Direction != platform.Ingress || tap.Slice != 128 || len(tap.VLANs) != 2 || tap.VLANs[0] != 10 || tap.TTL != 4*time.Hour ||
		tap.Lease != 90*time.Second || tap.Enforce || !tap.Allows(AllowTruncation) || tap.Budget != (Budget{200e6, 0.03, "warn"}) {
		t.Errorf("%+v", tap)
	}
	if o := d.Output; o.Encap != platform.EncapVXLAN || o.Addr.String() != "10.0.0.9" || o.UDP != 4790 || o.Key != 9001 || o.DSCP != 8 || d.MTU != 9000 {
		t.Errorf("%+v", d)
	}
	if s := set.Tenant("blue").Segments; len(s) != 2 || s[0] != flow.NewSegment(flow.KindVXLAN, 5001) {
		t.Errorf("%x", s)
	}
	// what is kept is the text of each, which gives the same again
	for _, r := range set.Resources() {
		again, err := Parse(r.Name, []byte(r.Text))
		if err != nil || len(again.Resources()) != 1 || again.Resources()[0] != r {
			t.Errorf("%s %s: %v\n%s", r.Kind, r.Name, err, r.Text)
		}
	}
}

func TestMistakes(t *testing.T) {
	const head = "apiVersion: crosstap/v1\nkind: Tap\nmetadata: {name: x}\nspec:\n  "
	f := func(text, want string) {
		t.Helper()
		_, err := Parse("f.yaml", []byte(text))
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	f("", `policy: f.yaml: there is no resource in it; begin with "apiVersion: crosstap/v1" and a kind`)
	f("apiVersion: v1\nkind: Tap\nmetadata: {name: x}\n", `policy: f.yaml:1:13: apiVersion: is "v1"; write "apiVersion: crosstap/v1"`)
	f("apiVersion: crosstap/v1\nkind: Tab\nmetadata: {name: x}\n", `policy: f.yaml:2:7: kind: "Tab" is no kind; did you mean "Tap"?`)
	f("apiVersion: crosstap/v1\nkind: Tap\nmetadata: {name: X y}\n", `policy: f.yaml:3:18: metadata.name: "X y" is no name; up to 48 of a-z, 0-9, - and ., letters or digits at both ends`)
	f(head+"selct: a", `policy: f.yaml:5:3: unknown key "selct"; did you mean "select"?`)
	f(head+"select: 'vm = a'\n  destinations: [d]\n  budget: {mirror: fast}", `policy: f.yaml:7:20: spec.budget.mirror: "fast" is no rate; write it as 200Mbit/s`)
	f(head+"select: 'wm = a'\n  destinations: [d]", `policy: f.yaml:5:11: spec.select: column 1: there is no field "wm"; did you mean "vm"?`)
	f(head+"select: {vms: [a]}\n  destinations: [d]\n  method: miror", `policy: f.yaml:7:11: spec.method: "miror" is not known here; did you mean "mirror"?`)
	f(head+"select: {vms: [a]}\n  destinations: [d]\n  filter: tcp prot 80", `policy: f.yaml:7:11: spec.filter: filter: column 5: "prot" is not expected; did you mean "port"?`)
	f(head+"select: {vms: [a]}\n  destinations: [d]\n  ttl: soon", `policy: f.yaml:7:8: spec.ttl: "soon" is no duration; write it as 90s, 30m, 4h or 7d`)
	f(head+"select: {vms: [a]}\n  destinations: [d]\n  ttl: 11y", `policy: f.yaml:7:8: spec.ttl: "11y" is no duration; write it as 90s, 30m, 4h or 7d`)
	f(head+"select: {vms: [a]}\n  destinations: [d]\n  ttl: NaNd", `policy: f.yaml:7:8: spec.ttl: "NaNd" is no duration; write it as 90s, 30m, 4h or 7d`)
	for _, long := range []string{"400000h", "4000d", "1e99d", "infd"} {
		f(head+"select: {vms: [a]}\n  destinations: [d]\n  ttl: "+long, `policy: f.yaml:7:8: spec.ttl: `+long+` is longer than ten years; write it as 90s, 30m, 4h or 7d, or leave it out`)
	}
	for _, short := range []string{"0s", "1ms", "-4h", "-infd"} {
		f(head+"select: {vms: [a]}\n  destinations: [d]\n  ttl: "+short, `policy: f.yaml:7:8: spec.ttl: `+short+` is shorter than a second; write it as 90s, 30m, 4h or 7d, or leave it out`)
	}
	f(head+"select: [a]\n  destinations: [d]", `policy: f.yaml:5:11: spec.select: want a mapping (key: value), found a list; write it as select: 'vm = "web-1"' or select: {vms: [web-1]}`)
	f(head+"select: 'vm = a'\n  destinations: d", `policy: f.yaml:6:17: spec.destinations: want a list, found the text "d"; write ["d"]`)
	f(head+"select: 'vm = a'\n  destinations: [d]\n  budget: 200Mbit/s", `policy: f.yaml:7:11: spec.budget: want a mapping (key: value), found the text "200Mbit/s"; write it as budget: {mirror: 200Mbit/s}`)
	f(head+"select: {vms: [a]}\n  destinations: [d]\n  slice: 5", `policy: f.yaml:7:10: spec.slice: 5 bytes: must be 14 to 65535; leave it out for whole frames`)
	f(head+"select: {vms: [a]}", `policy: f.yaml:5:3: spec.destinations: is missing; name resources of kind Destination`)
	f(head+"select: {vms: [a]}\n  method: flows-only\n  destinations: [d]\n  flows: {sampling: 1}",
		`policy: f.yaml:8:21: spec.flows.sampling: every packet makes a switch that exports much slower; write allow: [unsampled], or sample: some 60 % more work for the switch otherwise`)
	f("apiVersion: crosstap/v1\nkind: Destination\nmetadata: {name: x}\nspec: {url: 'vxlan://tool?vni=1'}", `policy: f.yaml:4:13: spec.url: "tool" is no address of a tool; switches know no names: give an IPv4 or IPv6 address`)
	f("apiVersion: crosstap/v1\nkind: Destination\nmetadata: {name: x}\nspec: {url: 'erspan2://10.0.0.1?session=1024'}", `policy: f.yaml:4:13: spec.url: session "1024": must be a number of 10 bits`)
	f("apiVersion: crosstap/v1\nkind: Tenant\nmetadata: {name: x}\nspec: {segments: ['vxlan:x']}", `policy: f.yaml:4:19: spec.segments[0]: "vxlan:x" is no segment: the number of kind vxlan has 24 bits; write it as vxlan:5001`)
	one := "apiVersion: crosstap/v1\nkind: Tenant\nmetadata: {name: x}\nspec: {segments: ['vxlan:1']}\n---\n"
	f(one+one, `policy: f.yaml:8:18: metadata.name: there is a Tenant "x" above; give each a name of its own`)
	f("a: [", "policy: f.yaml:1:4: sequence end token ']' not found")
}

func TestCheck(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		set, err := Parse("f", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := set.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	const tap = "apiVersion: crosstap/v1\nkind: Tap\nmetadata: {name: x}\nspec: {select: 'vm = a', destinations: [ids], method: %s}\n---\n"
	const dest = "apiVersion: crosstap/v1\nkind: Destination\nmetadata: {name: %s}\nspec: {url: '%s'}\n"
	sub := func(format string, words ...string) string {
		for _, w := range words {
			format = strings.Replace(format, "%s", w, 1)
		}
		return format
	}
	f(sub(tap+dest, "auto", "ids-1", "gre://10.0.0.1"), `there is no destination "ids"; there are: ids-1`)
	f(sub(tap+dest, "flows-only", "ids", "gre://10.0.0.1"), "flows-only needs a collector of flow records")
	f(sub(tap+dest, "mirror", "ids", "gre://10.0.0.1"), "method mirror copies to a port of the same host")
	f(sub(tap+dest, "promiscuous", "ids", "ipfix://10.0.0.1"), "takes flow records")
}

func TestSelector(t *testing.T) {
	target := &Target{
		Platform: "p", Tenant: "blue", VM: &platform.VM{Name: "db-1", Tags: map[string]string{"env": "prod", "gold": ""}, Folder: "/dc/shop"},
		Host: &platform.Host{Name: "kvm-4", Cluster: "c1"}, Switch: &platform.Switch{Name: "br-int"},
		Port: &platform.Port{Name: "vnet7", VLAN: 10, Segment: flow.NewSegment(flow.KindVXLAN, 5001), Addrs: []flow.Addr{flow.V4([]byte{10, 1, 0, 5})}, MAC: 0x020000000105},
	}
	f := func(expr string, want bool) {
		t.Helper()
		s, err := ParseSelector(expr)
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			return
		}
		if s.Match(target) != want {
			t.Errorf("%s: %v", expr, !want)
		}
	}
	f(`tenant = "blue" and vm like "db-%"`, true)
	f(`tenant = blue and not vm like "db-%"`, false)
	f(`vm = DB-1`, true)
	f(`vm ~ db-*`, true)
	f(`vm ~ db-?`, true)
	f(`vm ~ db`, false)
	f(`vm in (web-1, "db-1")`, true)
	f(`vm not in (web-1, "db-1")`, false)
	f(`vm != web-1 and (host = kvm-4 or host = kvm-5)`, true)
	f(`ip in 10.1.0.0/16`, true)
	f(`ip in (10.2.0.0/16, 10.1.0.5)`, true)
	f(`ip != 10.1.0.5`, false)
	f(`vni = 5001 and vlan = 10 and segment = vxlan:5001`, true)
	f(`tag.env = prod and tag.gold = true`, true)
	f(`tag.none = ""`, false)
	f(`group ~ *`, false) // not known
	f(`not group = x`, true)
	f(`mac = 02:00:00:00:01:05`, true)
	f(`folder like "/dc/%" and cluster = c1 and switch = br-int and port = vnet7 and platform = p`, true)
	g := func(expr, want string) {
		t.Helper()
		if _, err := ParseSelector(expr); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", expr, err, want)
		}
	}
	g(`vm`, "expected =, !=, like, ~ or in")
	g(`vm = `, "expected a value")
	g(`vm = a b`, "expected and, or, or the end")
	g(`(vm = a`, "expected )")
	g(`vm = "a`, "the string has no end")
	g(`vm not = a`, "expected like or in after not")
	g(`ip like a`, "neither an address nor a network")
	g(`segment = 5001`, "no segment")
	g(strings.Repeat("(", 200)+"vm = a", "nested")
}

// The schema and the parser know the same keys.
func TestSchemaKeys(t *testing.T) {
	var doc any
	if err := json.Unmarshal(Schema(), &doc); err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if p, ok := v["properties"].(map[string]any); ok {
				for k := range p {
					keys[k] = true
				}
			}
			for _, x := range v {
				walk(x)
			}
		case []any:
			for _, x := range v {
				walk(x)
			}
		}
	}
	walk(doc)
	for _, list := range [][]string{keysTap, keysDestination, keysPlatform, keysTenant} {
		for _, k := range list {
			if !keys[k] {
				t.Errorf("the schema lacks %s", k)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(whole)
	f.Add("a: &x [*x]")
	f.Fuzz(func(t *testing.T, text string) {
		set, err := Parse("f", []byte(text))
		if err != nil {
			return
		}
		for _, r := range set.Resources() {
			if _, err := Parse("again", []byte(r.Text)); err != nil {
				t.Errorf("%v\n%s", err, r.Text)
			}
		}
	})
}

// What is kept of a resource is what was written.
func TestText(t *testing.T) {
	const tap = "apiVersion: crosstap/v1\nkind: Tap\nmetadata: {name: x}\nspec:\n  # why\n  select: 'vm = a'   # INC-1\n\n  destinations: [d]\n"
	const tool = "apiVersion: crosstap/v1\nkind: Destination\nmetadata: {name: d}\nspec: {url: 'iface:t'}\n"
	set, err := Parse("f.yaml", []byte("# of the tap\n---\n"+tap+"---\n"+tool))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(set.Resources(), []Resource{{KindDestination, "d", tool}, {KindTap, "x", "# of the tap\n" + tap}}); d != "" {
		t.Error(d)
	}
	set, err = Parse("f.json", []byte(`{"apiVersion": "crosstap/v1", "kind": "Tap", "metadata": {"name": "x", "reason": "007"}, "spec": {"select": "vm = a", "vlans": [1, 2], "destinations": ["d"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	const written = "apiVersion: crosstap/v1\nkind: Tap\nmetadata:\n  name: x\n  reason: \"007\"\nspec:\n  select: vm = a\n  vlans:\n    - 1\n    - 2\n  destinations:\n    - d\n"
	if got := set.Tap("x").Text; got != written {
		t.Errorf("JSON became:\n%s\nwant\n%s", got, written)
	}
	same := func(a, b string, want bool) {
		t.Helper()
		if Same(a, b) != want {
			t.Errorf("same is %v of:\n%s\nand\n%s", !want, a, b)
		}
	}
	same(tap, "# x\n"+tap, true)
	same(tap, strings.Replace(tap, "[d]", "\n  - d", 1), true)
	same(tap, strings.Replace(tap, "[d]", "[e]", 1), false)
	same(tap, strings.Replace(tap, "# INC-1", "", 1), true)
	same(tap, "", false)
	same("a: [", tap, false)
}
