package tapspec

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

const full = `
taps:
- name: blue-db/vnet7
  role: port
  labels: {policy: blue-db}
  source: {interfaces: [vnet7], ring: 8MiB, snap: 256}
  filter: tcp port 5432
  groom: [repair, "slice=l4+64"]
  meter: {key: inner, idle: 15s, vxlan_ports: [4789]}
  to:
  - url: ipfix+tcp://10.0.0.9
  - {url: 'vxlan://10.0.0.8?vni=9001', filter: 'host 10.1.0.1 && port 5432', groom: slice=128}
  budget: {cpu: 20%, memory: 200MiB, mirror: 100Mbit/s}
  lease: 5m
  ttl: 4h
`

func TestYAML(t *testing.T) {
	got, err := ParseYAML([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	want := []Spec{{
		Name: "blue-db/vnet7", Role: "port", Labels: map[string]string{"policy": "blue-db"},
		Source: Source{Interfaces: []string{"vnet7"}, Ring: 8 << 20, Snap: 256},
		Filter: "tcp port 5432", Groom: "repair,slice=l4+64",
		Meter: Meter{Key: "inner", Idle: Duration(15 * time.Second), VXLANPorts: []uint16{4789}},
		To: []To{{URL: "ipfix+tcp://10.0.0.9"},
			{URL: "vxlan://10.0.0.8?vni=9001", Filter: "host 10.1.0.1 && port 5432", Groom: "slice=128"}},
		Budget: Budget{CPU: 0.2, Memory: 200 << 20, Mirror: 100e6},
		Lease:  Duration(5 * time.Minute), TTL: Duration(4 * time.Hour),
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if to := got[0].To[1].Destination(); to != "vxlan://10.0.0.8?vni=9001&filter=host 10.1.0.1 %26%26 port 5432&groom=slice=128" {
		t.Error(to)
	}
	again, err := toYAML(got)
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseYAML(again)
	if err != nil {
		t.Fatalf("%v\n%s", err, again)
	}
	if diff := cmp.Diff(got, back); diff != "" {
		t.Error(diff)
	}
}

// TestJSON writes a spec and reads it again: the digest stays.
func TestJSON(t *testing.T) {
	specs, err := ParseYAML([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(specs[0])
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), `"budget":{"cpu":"20%","memory":"200MiB","mirror":"100Mbit/s"}`) {
		t.Errorf("%s", b)
	}
	back, err := parseJSON(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(specs[0], back); diff != "" {
		t.Error(diff)
	}
	if back.Digest() != specs[0].Digest() {
		t.Error("the digest has changed")
	}
	if back.Filter += " or port 1"; back.Digest() == specs[0].Digest() {
		t.Error("the digest has not changed")
	}
	if _, err := parseJSON([]byte(`{"name":"a","source":{"interfaces":["x"]},"to":[{"url":"null:"}],"fliter":"tcp"}`)); err == nil {
		t.Error("an unknown name is taken")
	}
}

func TestMistakes(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		_, err := ParseYAML([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v, want %q", text, err, want)
		}
	}
	const rest = "source: {interfaces: [a]}\nto: [{url: 'null:'}]\n"
	f("name: a\n"+rest+"fliter: tcp\n", `4:1: unknown key "fliter"; did you mean "filter"?`)
	f(rest, "needs a name")
	f("name: 'a b'\n"+rest, "' ' in the name")
	f("name: a\nto: [{url: 'null:'}]\n", "nothing to tap")
	f("name: a\nsource: {interfaces: [a], file: x}\nto: [{url: 'null:'}]\n", "interfaces and file at once")
	f("name: a\nsource: {interfaces: [a]}\n", "no destination")
	f("name: a\nsource: {interfaces: [a]}\nto: [{url: nowhere}]\n", "is no URL")
	f("name: a\nsource: {interfaces: [a]}\nto: [{url: 'ipfix://h', filter: tcp}]\n", "takes flow records")
	f("name: a\n"+rest+"budget: {cpu: lots}\n", "share of a processor")
	f("name: a\n"+rest+"budget: {memory: 1MiB}\n", "at least 16MiB")
	f("name: a\n"+rest+"role: spy\n", `role "spy"`)
	f("name: a\n"+rest+"lease: 1ms\n", "at least 1s")
	f("taps:\n- {name: a, source: {interfaces: [a]}, to: [{url: 'null:'}]}\n- {name: a, source: {interfaces: [b]}, to: [{url: 'null:'}]}\n", "there twice")
	f("", "tapspec:")
}

func TestBudget(t *testing.T) {
	f := func(text string, want Budget, back string) {
		t.Helper()
		got, err := ParseBudget(text)
		if err != nil || got != want || got.String() != back {
			t.Errorf("%s: %+v %q, %v", text, got, got.String(), err)
		}
	}
	f("cpu=20%,memory=200MiB,mirror=100Mbit/s", Budget{0.2, 200 << 20, 100e6}, "cpu=20%,memory=200MiB,mirror=100Mbit/s")
	f("mirror=1.5G", Budget{Mirror: 1.5e9}, "mirror=1500Mbit/s")
	f("cpu=2.5%", Budget{CPU: 0.025}, "cpu=2.5%")
	f("memory=20000000", Budget{Memory: 20000000}, "memory=20MB")
	bad := func(text string) {
		t.Helper()
		if b, err := ParseBudget(text); err == nil {
			t.Errorf("%s: %+v", text, b)
		}
	}
	for _, text := range []string{"", "cpu", "cpu=20", "cpu=-1%", "cpu=1%,cpu=2%", "disk=1GiB", "mirror=fast", "memory=1", "cpu=NaN%"} {
		bad(text)
	}
}

func TestPayload(t *testing.T) {
	f := func(snap int, want bool, urls ...string) {
		t.Helper()
		s := Spec{Source: Source{Snap: snap}}
		for _, u := range urls {
			s.To = append(s.To, To{URL: u})
		}
		if s.Payload() != want {
			t.Errorf("snap %d, %v: payload %v", snap, urls, !want)
		}
	}
	f(0, false, "ipfix://h", "flows:-", "null:", "null:frames", "sflow://h")
	f(0, true, "ipfix://h", "vxlan://h?vni=1")
	f(0, true, "pcapng:x")
	f(160, false, "pcapng:x")
	f(161, true, "rpcap://*")
}

func FuzzParseYAML(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte(`{"name":"a","source":{"interfaces":["x"]},"to":[{"url":"null:"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		specs, err := ParseYAML(b)
		if err != nil {
			return
		}
		for i := range specs {
			j, err := json.Marshal(specs[i])
			if err != nil {
				t.Fatal(err)
			}
			back, err := parseJSON(j)
			if err != nil || back.Digest() != specs[i].Digest() {
				t.Fatalf("%s: %v", j, err)
			}
		}
	})
}

// parseJSON reads one spec, as those read it who get orders and reports. Unknown names are mistakes.
func parseJSON(text []byte) (Spec, error) {
	var s Spec
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, err
	}
	return s, s.Validate()
}

// toYAML writes specs as ParseYAML reads them.
func toYAML(specs []Spec) ([]byte, error) { return yaml.Marshal(Document{Taps: specs}) }
