package ipfix

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/decode"
	"crosstap/internal/ie"
)

// fieldValue is one field of a made-up record.
type fieldValue struct {
	Field
	value []byte
}

func iana(id uint16, value ...byte) fieldValue {
	return fieldValue{Field{PEN: 0, ID: id, Len: uint16(len(value))}, value}
}

func vmware(id uint16, value ...byte) fieldValue {
	return fieldValue{Field{PEN: ie.VMware, ID: id, Len: uint16(len(value))}, value}
}

func cert(id uint16, value ...byte) fieldValue {
	return fieldValue{Field{PEN: ie.CERT, ID: id, Len: uint16(len(value))}, value}
}

func back(id uint16, value ...byte) fieldValue {
	return fieldValue{Field{PEN: ie.Reverse, ID: id, Len: uint16(len(value))}, value}
}

// variable makes a field's length stand in the record.
func variable(f fieldValue) fieldValue {
	f.Len = ie.Variable
	f.value = append([]byte{byte(len(f.value))}, f.value...)
	return f
}

func num(n int, v uint64) []byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], v)
	return b[8-n:]
}

// decodeFields decodes one record of its own template.
func decodeFields(t *testing.T, fs ...fieldValue) []flow.Record {
	t.Helper()
	tpl, data := put16(put16(nil, 256), uint16(len(fs))), []byte(nil)
	for _, f := range fs {
		if f.PEN == 0 {
			tpl = put16(put16(tpl, f.ID), f.Len)
		} else {
			tpl = put32(put16(put16(tpl, f.ID|0x8000), f.Len), f.PEN)
		}
		data = append(data, f.value...)
	}
	recs, res, err := NewSession(Limits{}).Decode(message(7, 0, set(2, tpl), set(256, data)), 1, nil)
	if err != nil || res.Records != 1 {
		t.Fatalf("%v, %+v", err, res)
	}
	return recs
}

var exportNS = exportTime.UnixNano()

// blank is the record of which nothing is said.
func blank(change func(*flow.Record)) flow.Record {
	r := flow.Record{RecvNS: 1, Domain: 7, Direction: 255, StartNS: exportNS, EndNS: exportNS}
	if change != nil {
		change(&r)
	}
	return r
}

func TestElements(t *testing.T) {
	f := func(change func(*flow.Record), fs ...fieldValue) {
		t.Helper()
		if diff := cmp.Diff([]flow.Record{blank(change)}, decodeFields(t, fs...)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	pad := iana(210, 0)
	// counters, full and reduced size (RFC 7011, section 6.2)
	f(func(r *flow.Record) { r.Octets = 0x0102030405060708 }, iana(1, 1, 2, 3, 4, 5, 6, 7, 8))
	f(func(r *flow.Record) { r.Octets, r.Packets = 0x010203, 0x0405 }, iana(1, 1, 2, 3), iana(2, 4, 5))
	f(func(r *flow.Record) { r.L2Octets = 300 }, iana(352, num(4, 300)...))
	f(func(r *flow.Record) { r.Octets, r.Packets = 5, 6 }, iana(85, 99), iana(1, 5), iana(2, 6), iana(86, 99)) // totals beside deltas
	f(func(r *flow.Record) { r.Octets, r.Packets = 99, 98 }, iana(85, 99), iana(86, 98))                       // totals alone
	// interfaces, ports, small numbers
	f(func(r *flow.Record) { r.InIf, r.OutIf = 0x0102, math.MaxUint32 }, iana(10, 1, 2), iana(14, num(8, 1<<40)...))
	f(func(r *flow.Record) { r.SrcPort, r.DstPort, r.Proto = 258, 772, 17 }, iana(7, 1, 2), iana(11, 3, 4), iana(4, 17))
	f(func(r *flow.Record) { r.SrcPort, r.DstPort = 1, 2 }, iana(182, 0, 1), iana(183, 0, 2))
	f(func(r *flow.Record) { r.ToS, r.MinTTL, r.MaxTTL = 4, 63, 64 }, iana(5, 4), iana(52, 63), iana(53, 64))
	f(func(r *flow.Record) { r.MinTTL, r.MaxTTL = 9, 9 }, iana(192, 9))
	f(func(r *flow.Record) { r.TCPFlags = 0x1b }, iana(6, 0x1b))
	f(func(r *flow.Record) { r.TCPFlags = 0x112 }, iana(6, 0x51, 0x12)) // the header length is not a flag
	f(func(r *flow.Record) { r.ICMPTypeCode = 0x0301 }, iana(32, 3, 1))
	f(func(r *flow.Record) { r.ICMPTypeCode = 0x8000 }, iana(139, 0x80, 0))
	f(func(r *flow.Record) { r.ICMPTypeCode = 0x0b01 }, iana(176, 11), iana(177, 1))
	f(func(r *flow.Record) { r.ICMPTypeCode = 0x8601 }, iana(179, 1), iana(178, 0x86))
	f(func(r *flow.Record) { r.Direction, r.EndReason, r.Client = 1, flow.EndDetected, flow.ClientDst }, iana(61, 1), iana(136, 3), iana(239, 2))
	f(func(r *flow.Record) { r.EtherType, r.VLAN = 0x86dd, 10 }, iana(256, 0x86, 0xdd), iana(58, 0, 10), iana(243, 0, 0))
	f(func(r *flow.Record) { r.Point, r.Domain = 5, 9 }, iana(138, 0, 0, 0, 5), iana(149, 0, 0, 0, 9))
	f(func(r *flow.Record) { r.SrcMAC, r.DstMAC = 0x010203040506, 0x0a0b0c0d0e0f }, iana(56, 1, 2, 3, 4, 5, 6), iana(80, 10, 11, 12, 13, 14, 15))
	f(func(r *flow.Record) { r.Exporter = addr("192.0.2.7") }, iana(130, 192, 0, 2, 7))
	// a length that cannot carry the value is passed over
	f(nil, iana(8, 1, 2, 3), iana(56, 1, 2), iana(27, 1, 2, 3, 4), iana(154, 1, 2), pad, fieldValue{Field{PEN: 0, ID: 1, Len: 0}, nil})
	f(func(r *flow.Record) { r.Octets = 7 }, variable(iana(8)), variable(iana(1, 7)), variable(iana(12, 1, 2)))
	// both families in one template
	f(func(r *flow.Record) { r.Src, r.Dst = addr("10.0.0.1"), addr("fd00::2") },
		iana(8, 10, 0, 0, 1), iana(12, 0, 0, 0, 0), iana(27, make([]byte, 16)...), fieldValue{Field{PEN: 0, ID: 28, Len: 16}, []byte{0xfd, 15: 2}})
	// sampling
	f(func(r *flow.Record) { r.Sampling, r.Marks = 100, flow.MarkSampled }, iana(34, 100))
	f(func(r *flow.Record) { r.Sampling, r.Marks = 64, flow.MarkSampled }, iana(305, 1), iana(306, 63))
	f(func(r *flow.Record) { r.Sampling = 1 }, iana(34, 1))
	f(func(r *flow.Record) { r.Sampling = 1 }, iana(305, 1), iana(306, 0))
	// observers
	f(func(r *flow.Record) { r.Observer = "vif" }, variable(iana(82, 'e', 't', 'h')), variable(vmware(898, 'v', 'i', 'f')))
	f(func(r *flow.Record) { r.Observer = "eth" }, iana(82, 'e', 't', 'h'))
}

func TestTunnels(t *testing.T) {
	f := func(change func(*flow.Record), fs ...fieldValue) {
		t.Helper()
		if diff := cmp.Diff([]flow.Record{blank(change)}, decodeFields(t, fs...)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	src, dst := iana(8, 10, 0, 0, 1), iana(12, 10, 0, 0, 2)
	a, b := addr("10.0.0.1"), addr("10.0.0.2")
	// 893/894: 8/12 are the tenant's
	ovs := []fieldValue{src, dst, vmware(893, 192, 0, 2, 1), vmware(894, 192, 0, 2, 2)}
	vteps := flow.Tunnel{Src: addr("192.0.2.1"), Dst: addr("192.0.2.2")}
	with := func(seg flow.Segment, typ, proto uint8, port uint16) func(*flow.Record) {
		return func(r *flow.Record) {
			r.Src, r.Dst, r.Segment, r.Tunnel = a, b, seg, vteps
			r.Tunnel.Type, r.Tunnel.Proto, r.Tunnel.DstPort = typ, proto, port
		}
	}
	vni := variable(vmware(892, 0, 0x13, 0x89))
	f(with(flow.NewSegment(flow.KindVXLAN, 5001), 1, 0, 0), append(ovs, vmware(891, 1), vni)...)
	f(with(flow.NewSegment(flow.KindGeneve, 5001), 7, 0, 0), append(ovs, vni, vmware(891, 7))...)
	f(with(flow.NewSegment(flow.KindGRE, 0xfedc1389), 2, 0, 0), append(ovs, vmware(891, 2), variable(vmware(892, 0xfe, 0xdc, 0x13, 0x89)))...)
	f(with(0, 1, 0, 0), append(ovs, vmware(891, 1), variable(vmware(892)))...)
	f(with(0, 3, 0, 0), append(ovs, vmware(891, 3), vni)...) // a retired type
	f(with(flow.NewSegment(flow.KindGRE, 5001), 0, 47, 0), append(ovs, vmware(895, 47), vni)...)
	f(with(flow.NewSegment(flow.KindGeneve, 5001), 0, 17, 6081), append(ovs, vmware(895, 17), vmware(897, 0x17, 0xc1), vni)...)
	f(with(flow.NewSegment(flow.KindVXLAN, 5001), 0, 17, 4789), append(ovs, vmware(895, 17), vmware(897, 0x12, 0xb5), vni)...)
	// 88x alone: 8/12 are the tunnel's
	f(func(r *flow.Record) {
		r.Src, r.Dst, r.SrcPort, r.DstPort, r.Proto = addr("10.1.0.1"), addr("10.1.0.2"), 1, 2, 6
		r.Segment = flow.NewSegment(flow.KindVXLAN, 5001)
		r.Tunnel = flow.Tunnel{Src: a, Dst: b, SrcPort: 3, DstPort: 4789, Proto: 17, Type: 1}
	}, src, dst, iana(7, 0, 3), iana(11, 0x12, 0xb5), iana(4, 17), iana(351, num(8, 1<<56|5001)...),
		vmware(881, 10, 1, 0, 1), vmware(882, 10, 1, 0, 2), vmware(886, 0, 1), vmware(887, 0, 2), vmware(880, 6))
	// an IPv6 underlay, and a tenant's IPv6 inside
	f(func(r *flow.Record) {
		r.Src, r.Dst = addr("fd00::1"), addr("fd00::2")
		r.Tunnel = flow.Tunnel{Src: addr("2001:db8::1"), Dst: addr("2001:db8::2")}
	}, fieldValue{Field{PEN: 0, ID: 27, Len: 16}, []byte{0x20, 1, 0x0d, 0xb8, 15: 1}}, fieldValue{Field{PEN: 0, ID: 28, Len: 16}, []byte{0x20, 1, 0x0d, 0xb8, 15: 2}},
		vmware(883, append([]byte{0xfd}, num(8, 0)[:7]...)...), // too short: passed over
		fieldValue{Field{PEN: ie.VMware, ID: 883, Len: 16}, []byte{0xfd, 15: 1}}, fieldValue{Field{PEN: ie.VMware, ID: 884, Len: 16}, []byte{0xfd, 15: 2}})
	// only interface roles of the switch: no tunnel, 8/12 are the tenant's
	f(func(r *flow.Record) { r.Src, r.Dst = a, b }, src, dst, vmware(888, 0, 2), vmware(889, 0), vmware(890, 0, 1), iana(351, num(8, 0)...))
	// layer2SegmentId: kind 0 with a number is a VXLAN, other kinds keep theirs
	f(func(r *flow.Record) { r.Segment = flow.NewSegment(flow.KindVXLAN, 9) }, iana(351, num(8, 9)...))
	f(func(r *flow.Record) { r.Segment = flow.NewSegment(flow.KindNVGRE, 9) }, iana(351, num(8, 2<<56|9)...))
	f(func(r *flow.Record) { r.Segment = flow.NewSegment(0x77, 9) }, iana(351, num(8, 0x77<<56|9)...))
	f(func(r *flow.Record) { r.Segment = flow.NewSegment(flow.KindGRE, 9) }, iana(296, 0, 0, 0, 9))
}

func TestTimes(t *testing.T) {
	f := func(startNS, endNS int64, fs ...fieldValue) {
		t.Helper()
		r := decodeFields(t, fs...)[0]
		if r.StartNS != startNS || r.EndNS != endNS {
			t.Errorf("start %d, end %d; want %d, %d", r.StartNS, r.EndNS, startNS, endNS)
		}
	}
	const s = int64(1_000_000_000)
	const epoch1900 = 2208988800
	f(1700000000*s, 1700000001*s, iana(150, num(4, 1700000000)...), iana(151, num(4, 1700000001)...))
	f(1700000000123*1e6, 1700000000456*1e6, iana(152, num(8, 1700000000123)...), iana(153, num(8, 1700000000456)...))
	ntp := func(sec, fraction uint64) []byte { return num(8, (sec+epoch1900)<<32|fraction) }
	f(1700000000*s+s/2, 1700000001*s+s/4, iana(154, ntp(1700000000, 1<<31)...), iana(155, ntp(1700000001, 1<<30)...))
	f(1700000000*s, 1700000001*s+s/8, iana(156, ntp(1700000000, 0)...), iana(157, ntp(1700000001, 1<<29)...))
	f((1<<32-epoch1900+100)*s, exportNS, iana(156, num(8, 100<<32)...)) // the era that begins in 2036
	f(exportNS-2*s, exportNS-s/2, iana(158, num(4, 2000000)...), iana(159, num(4, 500000)...))
	boot := iana(160, num(8, 1700000000000)...)
	f(1700000005*s, 1700000007*s, iana(22, num(4, 5000)...), iana(21, num(4, 7000)...), boot)
	f(exportNS-2*s, exportNS, iana(22, num(4, 5000)...), iana(21, num(4, 7000)...)) // no boot time: exported as it ended
	f(1700000000*s, 1700000002*s, iana(150, num(4, 1700000000)...), iana(161, num(4, 2000)...))
	f(exportNS-3*s, exportNS, iana(162, num(4, 3000000)...))
	f(1700000000*s, 1700000000*s, iana(323, num(8, 1700000000000)...))
	f(exportNS, exportNS, iana(4, 6))
	f(math.MaxInt64, exportNS, iana(152, num(8, math.MaxUint64)...)) // beyond what nanoseconds can say
}

func TestBiflow(t *testing.T) {
	recs := decodeFields(t, iana(8, 10, 0, 0, 1), iana(12, 10, 0, 0, 2), iana(7, 0, 9), iana(11, 0, 80), iana(1, 100), iana(2, 3), iana(6, 0x1b),
		iana(61, 0), iana(10, 1), iana(14, 2), iana(239, 1), back(1, 200), back(2, 4), back(6, 0x12))
	want := []flow.Record{
		blank(func(r *flow.Record) {
			r.Src, r.Dst, r.SrcPort, r.DstPort, r.Octets, r.Packets, r.TCPFlags = addr("10.0.0.1"), addr("10.0.0.2"), 9, 80, 100, 3, 0x1b
			r.Direction, r.InIf, r.OutIf, r.Client = 0, 1, 2, flow.ClientSrc
		}),
		blank(func(r *flow.Record) {
			r.Src, r.Dst, r.SrcPort, r.DstPort, r.Octets, r.Packets, r.TCPFlags = addr("10.0.0.2"), addr("10.0.0.1"), 80, 9, 200, 4, 0x12
			r.Direction, r.InIf, r.OutIf, r.Client, r.Marks = 1, 2, 1, flow.ClientDst, flow.MarkReverse
		}),
	}
	if diff := cmp.Diff(want, recs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if recs := decodeFields(t, iana(4, 6), iana(2, 3), back(2, 4), cert(14, 0x02), cert(15, 0x18), cert(14|decode.CERTReverse, 0x12), cert(15|decode.CERTReverse, 0x11)); len(recs) != 2 ||
		recs[0].FirstTCPFlags != 0x02 || recs[0].TCPFlags != 0x1a || recs[1].FirstTCPFlags != 0x12 || recs[1].TCPFlags != 0x13 {
		t.Errorf("first and other flags as YAF sends them: %+v", recs)
	}
	if recs := decodeFields(t, iana(1, 100), iana(2, 3), back(1, 0), back(2, 0)); len(recs) != 1 {
		t.Errorf("a biflow with nothing in the other direction gave %d records", len(recs))
	}
}

// The exporter says once, in an options record, when it started; its flow records tell uptimes.
func TestBootTimeOfOptions(t *testing.T) {
	s := NewSession(Limits{})
	var options []string
	s.OnOption(func(it decode.Option) {
		for v := range it.Fields() {
			options = append(options, v.Name()+"="+v.Text())
		}
	})
	msg := message(1, 0, set(3, optionsTemplate(257, 1, 149, 4, 160, 8)), set(2, template(256, 22, 4, 21, 4)),
		set(257, num(4, 1), num(8, 1700000000000)), set(256, num(4, 1000), num(4, 3000)))
	recs, res, err := s.Decode(msg, 1, nil)
	if err != nil || res.OptionRecords != 1 || len(recs) != 1 {
		t.Fatalf("%v, %+v", err, res)
	}
	if recs[0].StartNS != 1700000001*1e9 || recs[0].EndNS != 1700000003*1e9 {
		t.Errorf("start %d, end %d", recs[0].StartNS, recs[0].EndNS)
	}
	if diff := cmp.Diff([]string{"observationDomainId=1", "systemInitTimeMilliseconds=2023-11-14T22:13:20.000Z"}, options); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
}
