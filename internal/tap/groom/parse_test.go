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
	f("slice=inner-l7", "slice: inner-l7", groom.Spec{Slice: &groom.Slice{At: groom.Place{Inner: true, Layer: groom.L7}, Idle: 30 * time.Second, Flows: 1 << 16}})
	f("tag=vlan:100+comment/per-point/tpid=0x88a8/rule=web/vm=vnet3:web-1+rest", "tag: {with: [vlan:100, comment], per-point: true, tpid: 0x88a8, rule: web, vm: [vnet3: web-1, rest]}",
		groom.Spec{Tag: &groom.Tag{VLAN: 100, Comment: true, PerPoint: true, EtherType: 0x88a8, Rule: "web", VMs: map[string]string{"vnet3": "web-1", "": "rest"}}})
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
	const places = `is no place in a frame; give a number of bytes, or count from l2, l3, l4 or l7, with inner- in front for the innermost packet: 128, l4+64, inner-l7`
	f("slice=l5+4", `groom: column 7: "l5+4" `+places)
	f("slice=l9", `groom: column 7: "l9" `+places)
	f("slice=payload", `groom: column 7: "payload" `+places)
	f("slice=-1", `groom: column 7: "-1" is no number of bytes; such as 128 or l4+64`)
	f("slice=l4+x", `groom: column 7: "x" is no number of bytes; such as 128 or l4+64`)
	f("slice=", `groom: column 7: "" is no number of bytes; such as 128 or l4+64`)
	f("slice=64/after=ten", `groom: column 16: after: "ten" is no number of packets or bytes; such as 10p, 4096B or 64kB`)
	f("slice=64/after=3p/flows=0", `groom: column 25: flows: "0" will not do; give a whole number from 1 to 16777216`)
	f("mask=l7:9-3", `groom: column 6: "9-3" is no range of bytes; 64- is from byte 64 on, 0-15 the first sixteen`)
	f(`mask=regex:"a`, `groom: column 12: the quoted text does not end; add a "`)
	const masks = `there are addresses, macs, regex:PATTERN and parts of l2, l3, l4 and l7, with inner- in front for the innermost packet: l7, l7:64-, l4:0-15`
	f("mask=l9:0-3", `groom: column 6: "l9:0-3" is no thing to mask; `+masks)
	f("mask=adresses", `groom: column 6: "adresses" is no thing to mask; did you mean addresses?`)
	f("mask=l7/fill=256", `groom: column 14: fill: "256" is no byte; 0 to 255, or 0x00 to 0xff`)
	const key = `; head -c 32 /dev/urandom >FILE makes one; a path with slashes stands in double quotes: key-file="/etc/key"`
	f("mask=addresses/key=abc", `groom: column 20: key: must be 64 hexadecimal digits`+key)
	f(`mask=addresses/key-file="/nowhere"`, `groom: column 25: key-file: stat /nowhere: no such file or directory`+key)
	f(`mask=addresses/key-file="/dev/null"`, `groom: column 25: key-file: /dev/null must be a file of 32 bytes or 64 hexadecimal digits`+key)
	f("mask=addresses/key-file=/etc/key", `groom: column 25: key-file: no name of a file`+key)
	f("repair=1", `groom: column 8: repair takes no value; its options follow a slash: mtu`)
	f("repair/mtu=20", `groom: column 12: mtu: "20" will not do; give a whole number from 68 to 65535`)
	f("dedup=0s", `groom: column 7: dedup: 0s must be positive; such as 500us, 50ms or 2s`)
	f("dedup/packets=4294967296", `groom: column 15: packets: "4294967296" will not do; give a whole number from 0 to 2147483647`)
	f("dedup/count=maybe", `groom: column 13: count: "maybe" is neither true nor false; the name alone switches it on`)
	f("dedup/ignore=port", `groom: column 14: "port" is no field that dedup can ignore; there are ttl, checksum, vlan, mac, tos, id, seq`)
	f("sample=10%", `groom: column 8: "10%" is no sampling rate; 1:10 takes one of ten`)
	f("sample=1:2/random=5", `groom: column 19: random takes no value; the name alone switches it on`)
	f("sample=1:2/random/seed=x", `groom: column 24: seed: "x" will not do; give a whole number below 2^64; the same seed takes the same frames again`)
	f("sample=1:2/keep=sin", `groom: column 17: "sin" is no TCP flag; did you mean fin?`)
	f("tag=vlan:4095", `groom: column 5: "4095" is no VLAN identifier; vlan:1 to vlan:4094`)
	f("tag=vlan", `groom: column 5: "" is no VLAN identifier; vlan:1 to vlan:4094`)
	f("tag=coment", `groom: column 5: "coment" is no way to tag; did you mean comment?`)
	f("tag=vlan:3/tpid=0x800", `groom: column 17: tpid: "0x800" is no tag's; 0x8100, 0x88a8 or 0x9100`)
	f("tag=trailer/rule-id=-1", `groom: column 21: rule-id: "-1" will not do; give a whole number below 2^32`)
	f("tag=comment/vm=vnet3:", `groom: column 16: vm: "vnet3:" names no machine; vm=web-1 for all frames, vm=vnet3:web-1+vnet4:db-1 by their interface`)
	f("tag=comment/vm=a+b", `groom: column 18: vm: a name for all is there twice`)
	f("strip=all/link=wire", `groom: column 16: "wire" is no value of link; there are ethernet, raw`)
	f("mask=addresses", `groom: mask: key of 0 bytes: pseudonyms need one of 32; give key-file=PATH or key=HEX`)
	f("balance=99", `groom: column 9: balance: "99" will not do; give a whole number from 1 to 64`)
	f("balance=2/hash=mac", `groom: column 16: "mac" is no value of hash; there are hosts, ports`)
	f("sample=1:0", `groom: column 8: "1:0" is no sampling rate; 1:10 takes one of ten`)
	f("repair,,strip=all", `groom: column 8: a name is missing; steps are divided by commas, their options by slashes`)
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
