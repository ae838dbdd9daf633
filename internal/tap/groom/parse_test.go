package groom_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"crosstap/internal/tap/groom"
)

// TestFlagsAndYAMLSayTheSame reads each spec in both forms.
func TestFlagsAndYAMLSayTheSame(t *testing.T) {
	f := func(flags, yaml string, want groom.Spec) {
		t.Helper()
		got, err := groom.Parse(flags)
		if err != nil {
			t.Errorf("%s: %v", flags, err)
			return
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-want, +got)\n%s", flags, diff)
		}
		if got, err = groom.ParseYAML([]byte(yaml)); err != nil {
			t.Errorf("%s: %v", yaml, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-want, +got)\n%s", yaml, diff)
		}
	}
	f("", "", groom.Spec{})
	f("repair", "repair: true", groom.Spec{Repair: &groom.Repair{MTU: 1500}})
	f("repair/mtu=9000", "repair: {mtu: 9000}", groom.Spec{Repair: &groom.Repair{MTU: 9000}})
	f("strip=vxlan+vntag", "strip: [vxlan, vntag]", groom.Spec{Strip: &groom.Strip{Headers: groom.HeaderVXLAN | groom.HeaderVNTag}})
	f("strip=all/link=ethernet", "strip:\n  headers: all\n  link: ethernet\n", groom.Spec{Strip: &groom.Strip{Headers: groom.HeaderAll, Ethernet: true}})
	dedup := groom.Dedup{Window: 50 * time.Millisecond, Entries: 1 << 18, Ignore: groom.DefaultIgnore}
	f("dedup", "dedup:", groom.Spec{Dedup: &dedup})
	other := dedup
	other.Window, other.SamePoint, other.CountOnly, other.Ignore = 2*time.Millisecond, true, true, groom.FieldTTL|groom.FieldChecksum|groom.FieldMAC|groom.FieldToS
	f("dedup=2ms/same-point/count/ignore=tos/compare=vlan", "dedup: {window: 2ms, same-point: true, count: true, ignore: [tos], compare: vlan}", groom.Spec{Dedup: &other})
	f("sample=1:10/flow/seed=7/keep", "sample: {rate: 1:10, flow: true, seed: 7, keep: [syn, fin, rst]}",
		groom.Spec{Sample: &groom.Sample{Rate: 10, Mode: groom.SampleFlows, Seed: 7, Keep: 7}})
	slice := groom.Slice{At: groom.Place{Inner: true, Layer: groom.L4, Offset: 64}, AfterPackets: 10, Idle: time.Minute, Flows: 100}
	f("slice=inner-l4+64/after=10p/idle=1m/flows=100", "slice: {to: inner-l4+64, after: 10p, idle: 1m, flows: 100}", groom.Spec{Slice: &slice})
	f("slice=128", "slice: 128", groom.Spec{Slice: &groom.Slice{At: groom.Place{Offset: 128}, Idle: 30 * time.Second, Flows: 1 << 16}})
	f(`mask=l7:64-+inner-l4:0-3+regex:"a,b/c+\d \"x\""/fill=0x2a`, `mask: {what: ["l7:64-", "inner-l4:0-3", 'regex:a,b/c+\d "x"'], fill: 0x2a}`,
		groom.Spec{Mask: &groom.Mask{Ranges: []groom.Range{{From: groom.Place{Layer: groom.L7, Offset: 64}, Len: -1}, {From: groom.Place{Inner: true, Layer: groom.L4}, Len: 4}},
			Patterns: []string{`a,b/c+\d "x"`}, Fill: 0x2a}})
	f("tag=vlan:100+comment/per-point/tpid=0x88a8/rule=web", "tag: {with: [vlan:100, comment], per-point: true, tpid: 0x88a8, rule: web}",
		groom.Spec{Tag: &groom.Tag{VLAN: 100, Comment: true, PerPoint: true, EtherType: 0x88a8, Rule: "web"}})
	f(" balance = 3 / hash = hosts , repair ", "balance: {outputs: 3, hash: hosts}\nrepair:\n",
		groom.Spec{Balance: &groom.Balance{Outputs: 3, Hash: groom.HashHosts}, Repair: &groom.Repair{MTU: 1500}})
}

// TestSpecWithinADocument is how a file with more in it holds a spec.
func TestSpecWithinADocument(t *testing.T) {
	var doc struct {
		Name  string     `yaml:"name"`
		Groom groom.Spec `yaml:"groom"`
	}
	err := yaml.UnmarshalWithOptions([]byte("name: web\ngroom:\n  repair: true\n  tag: {with: [vlan: 7, comment]}\n  dedup: false\n"), &doc, yaml.Strict())
	if err != nil || doc.Groom.Repair == nil || doc.Groom.Tag == nil || doc.Groom.Tag.VLAN != 7 || !doc.Groom.Tag.Comment || doc.Groom.Dedup != nil {
		t.Errorf("%+v, %v", doc, err)
	}
	err = yaml.UnmarshalWithOptions([]byte("name: web\ngroom:\n  repiar: true\n"), &doc, yaml.Strict())
	if err == nil || !strings.Contains(err.Error(), `groom: line 3, column 3: "repiar" is no step; did you mean repair?`) {
		t.Errorf("%v", err)
	}
}

// TestSpecMistakes shows where the mistake is and what to do.
func TestSpecMistakes(t *testing.T) {
	f := func(flags, want string) {
		t.Helper()
		_, err := groom.Parse(flags)
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v\nwant %s", flags, err, want)
		}
	}
	f("dedpu", `groom: column 1: "dedpu" is no step; did you mean dedup?`)
	f("repair,strip=vlxan", `groom: column 14: "vlxan" is no header to strip; did you mean vlan?`)
	f("repair, strip", `groom: column 9: strip needs a value; such as vxlan+vntag or all`)
	f("dedup=50", `groom: column 7: dedup: "50" is no duration; give a number with its unit, such as 500us, 50ms or 2s`)
	f("dedup/windw=1ms", `groom: column 7: "windw" is no option of dedup; there are compare, count, entries, frame, ignore, inner, packets, same-point`)
	f("dedup,dedup", `groom: column 7: dedup is there twice; each step has its fixed place, so give it once`)
	f("slice=l5+4", `groom: column 7: "l5+4" is no place in a frame; there are l2+N, l3+N, l4+N, l7+N, inner-l2+N, inner-l3+N, inner-l4+N, inner-l7+N`)
	f("mask=l7:9-3", `groom: column 6: "9-3" is no range of bytes; 64- is from byte 64 on, 0-15 the first sixteen`)
	f(`mask=regex:"a`, `groom: column 12: the quoted text does not end; add a "`)
	f("repair=1", `groom: column 8: repair takes no value`)
	f("mask=addresses", `groom: mask: key of 0 bytes: pseudonyms need one of 32; give key-file=PATH or key=HEX`)
	f("balance=99", `groom: balance: 99 outputs: must be 1 to 64`)
	f("sample=1:0", `groom: sample: rate 1:0: must be 1:1 or less often`)
	f("repair,,strip=all", `groom: column 8: a name is missing`)
	_, err := groom.ParseYAML([]byte("repair: true\nstrip:\n  headers: [vxlan, vntga]\n"))
	var e *groom.Error
	if !errors.As(err, &e) || e.Error() != `groom: line 3, column 20: "vntga" is no header to strip; did you mean vntag?` {
		t.Errorf("%v", err)
	}
}

// FuzzParse reads any text: it is refused or gives a pipeline.
func FuzzParse(f *testing.F) {
	f.Add("repair,strip=vxlan+vntag/link=raw,dedup=50ms/same-point,sample=1:10/flow,slice=l4+64/after=10p,tag=vlan:3,balance=3")
	f.Add(`mask=l7:64-+regex:"a\"b,",dedup=1ms/entries=9/ignore=tos`)
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = groom.ParseYAML([]byte(text))
		s, err := groom.Parse(text)
		if err != nil || s.Dedup != nil || s.Slice != nil && s.Slice.Flows > 1000 {
			return
		}
		if _, err := groom.New(groom.Config{Spec: s}); err != nil && s.Mask == nil {
			t.Errorf("%s: %v", text, err)
		}
	})
}
