package decode

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
	"crosstap/internal/ie"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// decoderOf returns a decoder that reads definitions as pairs of identifier and length, all IANA's unless bit 15 is set: then
// of enterprise 6876, and of enterprise 4242 above 0xf000.
func decoderOf(t *testing.T) *Decoder {
	t.Helper()
	return NewDecoder(Limits{}, func(fields []Field, def []byte, _ int) []Field {
		for ; len(def) >= 4; def = def[4:] {
			f := Field{ID: binary.BigEndian.Uint16(def), Len: binary.BigEndian.Uint16(def[2:])}
			switch {
			case f.ID >= 0xf000:
				f.PEN, f.ID = 4242, f.ID&0xfff
			case f.ID&0x8000 != 0:
				f.PEN, f.ID = ie.VMware, f.ID&0x7fff
			}
			fields = append(fields, f)
		}
		return fields
	})
}

// define gives the decoder a template.
func define(s *Decoder, id uint16, fields ...uint16) {
	var def []byte
	for _, f := range fields {
		def = binary.BigEndian.AppendUint16(def, f)
	}
	s.Define(Spec{ID: id, Count: len(fields) / 2, Def: def}, 0)
}

const frameOfTenant = "02000000000b 02000000000a 0800 4500005a 00004000 4011 0000 0a090001 0a090002 c000 12b5 0046 0000 08000000 00138900" +
	"020000000002 020000000001 0800 45000028 00004000 4006 0000 ac100101 ac100102 1f90 0050 00000001 00000002 5018 0400 0000 0000"

func decoded(t *testing.T, s *Decoder, id uint16, body string) ([]flow.Record, Result) {
	t.Helper()
	s.Data(id, 16, unhex(body))
	recs, res, err := s.End()
	if err != nil {
		t.Fatal(err)
	}
	return recs, res
}

func open(s *Decoder) {
	s.Begin(1, nil, nil)
	s.Open(Message{Protocol: IPFIX, Domain: 7, ExportNS: 5e9})
}

// A data link frame (RFC 7133, element 315, and 104 of NetFlow v9) gives both layers of a tunnelled packet.
func TestFrames(t *testing.T) {
	f := func(body string, octets, l2 uint64, fields ...uint16) {
		t.Helper()
		s := decoderOf(t)
		open(s)
		define(s, 256, fields...)
		recs, _ := decoded(t, s, 256, body)
		if len(recs) != 1 {
			t.Fatalf("%d records", len(recs))
		}
		r := recs[0]
		if r.Src.String() != "172.16.1.1" || r.DstPort != 80 || r.Tunnel.Src.String() != "10.9.0.1" || r.Tunnel.Type != TunnelVXLAN ||
			r.Segment != flow.NewSegment(flow.KindVXLAN, 5001) || r.SrcMAC != 0x020000000001 || r.Packets != 1 || r.Octets != octets || r.L2Octets != l2 {
			t.Errorf("%+v", r)
		}
	}
	f("0068"+frameOfTenant, 40, 104, 312, 2, 315, 104)
	f("68"+frameOfTenant, 40, 0, 315, ie.Variable)
	f("0068"+frameOfTenant+"00000000000005dc", 1500, 104, 103, 2, 104, 104, 1, 8)
	f(strings.ReplaceAll(frameOfTenant, " ", "")[28:]+"0001", 40, 0, 313, 90, 408, 2)
}

func TestExtra(t *testing.T) {
	f := func(body, want string, fields ...uint16) {
		t.Helper()
		s := decoderOf(t)
		open(s)
		define(s, 256, fields...)
		recs, _ := decoded(t, s, 256, body)
		if len(recs) != 1 || recs[0].Extra != want {
			t.Errorf("%d records, %q, want %q", len(recs), recs[0].Extra, want)
		}
	}
	f("0a000001 1f90 01", "0.225=0a000001 0.227=1f90", 225, 4, 227, 2, 4, 1)
	f("1f90 0a000001", "0.225=0a000001 0.227=1f90", 227, 2, 225, 4)
	f("00000000 02", "0.233=02", 225, 4, 233, 1)      // zeros say nothing
	f("0a000001 0000fde8 18", "", 15, 4, 16, 4, 9, 1) // routing is left out
	f("02 abcd 03 616263", "0.9999=02 4242.1=abcd 4242.2=616263", 9999, 1, 0xf001, 2, 0xf002, ie.Variable)
	f("00000bb8", "6876.950=00000bb8", 0x8000|950, 4)
	f("02 0001", "", 0x8000|889, 1, 0x8000|888, 2) // the distributed switch's
	f(strings.Repeat("ab", 3000)+"01", "4242.2=01", 0xf001, 3000, 0xf002, 1)
}

func TestReadExtra(t *testing.T) {
	var got []string
	for v := range Extra("0.225=0a000001 0.233=02 4242.1=abcd junk") {
		got = append(got, v.Name()+" "+v.Text())
	}
	if d := cmp.Diff([]string{"postNATSourceIPv4Address 10.0.0.1", "firewallEvent 2", "4242/1 0xabcd"}, got); d != "" {
		t.Error(d)
	}
	defer func() { _ = ie.Define(nil) }()
	if err := ie.Define([]ie.Definition{{PEN: 4242, ID: 1, Name: "queueDepth", Type: "unsigned16", Unit: "packets"}}); err != nil {
		t.Fatal(err)
	}
	for v := range Extra("4242.1=abcd") {
		if v.Name() != "queueDepth" || v.Text() != "43981" {
			t.Errorf("%s %s", v.Name(), v.Text())
		}
	}
}

// A list (RFC 6313) whose template has addresses makes flow records; another one says more of the record around it.
func TestLists(t *testing.T) {
	s := decoderOf(t)
	open(s)
	define(s, 300, 8, 4, 12, 4, 2, 4)
	define(s, 301, 56, 6, 80, 6)
	define(s, 256, 10, 4, 292, ie.Variable, 293, ie.Variable)
	addresses := "0a000001 0a000002 00000005" + "0a000003 0a000004 00000006"
	macs := "020000000001 020000000002"
	recs, res := decoded(t, s, 256, "00000009"+"1b"+"03 012c"+addresses+"11"+"ff"+"012d 0010"+macs)
	if len(recs) != 3 || res.Records != 1 {
		t.Fatalf("%d records, %+v", len(recs), res)
	}
	if recs[0].SrcMAC != 0x020000000001 || recs[1].Src.String() != "10.0.0.1" || recs[2].Packets != 6 || recs[2].InIf != 9 {
		t.Errorf("%+v", recs)
	}
}

// Lists are shown with their records.
func TestListText(t *testing.T) {
	s := decoderOf(t)
	var got []string
	s.Begin(1, nil, func(it *Item) {
		for v := range it.Fields() {
			got = append(got, v.Text(), string(v.AppendJSON(nil)))
		}
	})
	s.Open(Message{Protocol: IPFIX, Domain: 7})
	define(s, 300, 4, 1, 7, 2)
	define(s, 256, 292, ie.Variable)
	got = nil
	s.Data(256, 16, unhex("09 03 012c 06 0050 11 0035"))
	s.Data(256, 30, unhex("05 03 012d 0001"))
	want := []string{
		"[{protocolIdentifier=6 sourceTransportPort=80} {protocolIdentifier=17 sourceTransportPort=53}]",
		`[{"protocolIdentifier":6,"sourceTransportPort":80},{"protocolIdentifier":17,"sourceTransportPort":53}]`,
		`["template 301 is not known: 0x0001"]`, `["template 301 is not known: 0x0001"]`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// Hostile lists: nested without end, of unknown templates, cut.
func TestHostileLists(t *testing.T) {
	s := decoderOf(t)
	for range 3 {
		open(s)
		define(s, 256, 292, ie.Variable)
		define(s, 257, 210, 1)
		body := unhex("ff" + "0100" + strings.Repeat("ff0100", 100)[:512])
		s.Data(256, 16, append(body, unhex("03ff0101 03ff0101 05ff010102 04ff010003")...))
		recs, _, _ := s.End()
		if len(recs) > 1000 {
			t.Fatalf("%d records", len(recs))
		}
	}
}

func TestApplication(t *testing.T) {
	f := func(body, app string, how flow.AppHow, fields ...uint16) {
		t.Helper()
		s := decoderOf(t)
		open(s)
		define(s, 256, fields...)
		recs, _ := decoded(t, s, 256, body)
		if len(recs) != 1 || recs[0].App != app || recs[0].AppHow != how {
			t.Errorf("%q by %s, want %q", recs[0].App, recs[0].AppHow, app)
		}
	}
	f("0d0001af", "13:431", flow.AppExporter, 95, 4)
	f("05 000000000026", "5:38", flow.AppExporter, 95, 7)
	f("00000000", "", flow.AppUnknown, 95, 4)
	f("73736c0000", "ssl", flow.AppExporter, 96, 5)
}
