package collect

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"crosstap/internal/collect/internal/exports"
	"crosstap/internal/collect/session"
	"crosstap/internal/flow"
	"crosstap/internal/flowproto/ipfix"
	"crosstap/internal/testkit"
)

// imported runs the line over datagrams, as "decode --conversations" does.
func imported(t *testing.T, ds []exports.Datagram, change func(*Config)) (*Memory, Status) {
	t.Helper()
	m := new(Memory)
	cfg := DefaultConfig()
	cfg.Store, cfg.Sources, cfg.Import, cfg.Workers = m, []Source{capture(ds)}, true, 1
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	balanced(t, c.Status())
	return m, c.Status()
}

// The promise, over both hosts' captures and without any inventory: Open vSwitch reports each packet of the TCP pair three times, and it
// counts exactly once, with its observers in the order in which the packets passed them.
func TestLabConversations(t *testing.T) {
	m, s := imported(t, labDatagrams(t), nil)
	type way struct{ packets, octets uint64 }
	var forward, back way
	seen := map[string]bool{}
	all := m.Conversations()
	for _, c := range all {
		if !strings.HasPrefix(c.Client.Addr.String(), "172.16.1.") || c.Proto != 6 {
			continue
		}
		if c.Client.Addr.String() != "172.16.1.1" || !c.Known || c.Segment != flow.NewSegment(flow.KindVXLAN, 5001) {
			t.Errorf("client %v known %v, segment %x", c.Client.Addr, c.Known, uint64(c.Segment))
		}
		forward.packets, forward.octets = forward.packets+c.Forward.Packets, forward.octets+c.Forward.Octets
		back.packets, back.octets = back.packets+c.Back.Packets, back.octets+c.Back.Octets
		seen[observers(&c.Forward)+" | "+observers(&c.Back)] = true
		for _, w := range []*Way{&c.Forward, &c.Back} {
			for _, o := range w.Observers {
				if o.Packets != w.Packets || o.Octets != w.Octets {
					t.Errorf("%+v differs from the sum %d, %d", o, w.Packets, w.Octets)
				}
			}
		}
	}
	if want := (way{214, 11260}); forward != want {
		t.Errorf("forward %+v, want %+v", forward, want)
	}
	if want := (way{217, 251380}); back != want {
		t.Errorf("back %+v, want %+v", back, want)
	}
	const h1, h2 = "10.99.1.254 lsp-vm-11-6d876a1c", "10.99.2.254 lsp-vm-21-6d876a1c" // the logical ports of the machines
	want := map[string]bool{
		h1 + " in, 10.99.2.254 tunnel in, " + h2 + " out | " + h2 + " in, 10.99.1.254 tunnel in, " + h1 + " out": true,
	}
	if d := gocmp.Diff(want, seen); d != "" {
		t.Error(d)
	}
	gre, waiting := 0, 0
	for _, c := range all {
		if gre3 := strings.HasPrefix(c.Client.Addr.String(), "172.16.3.") && strings.HasPrefix(c.Server.Addr.String(), "172.16.3."); !gre3 {
			continue
		}
		gre++
		for _, w := range []*Way{&c.Forward, &c.Back} {
			if len(w.Observers) > 0 && w.Marks&flow.MarkSampled == 0 {
				t.Errorf("GRE %v > %v is not shown as sampled: %+v", c.Client.Addr, c.Server.Addr, w)
			}
		}
	}
	for _, x := range s.Exporters {
		if x.Domain == 202 {
			waiting += x.PendingSets
			if x.Records != 0 || x.Templates != 0 || x.MissingSets == 0 {
				t.Errorf("Geneve bridge of h2: %+v", x)
			}
		}
		if gre := x.Domain == 103 || x.Domain == 203; gre != (x.Sampling.Source == session.SamplingScaled) || gre && x.Sampling.Rate != 4 {
			t.Errorf("domain %d: sampling %+v", x.Domain, x.Sampling)
		}
	}
	if gre == 0 || waiting == 0 {
		t.Errorf("%d GRE conversations, %d sets of h2's Geneve bridge wait", gre, waiting)
	}
}

// The same pair when the captures' NetFlow v5 and sFlow are collected too, as a switch that exports in three ways at once is: it still
// counts once.
func TestLabAllProtocols(t *testing.T) {
	var ds []exports.Datagram
	for _, name := range []string{"h1", "h2"} {
		for _, port := range []uint16{4739, 2055, 6343} {
			ds = append(ds, exports.Read(t, testkit.Corpus(t, "collect/ovs-lab/"+name+".pcap"), port)...)
		}
	}
	slices.SortStableFunc(ds, func(a, b exports.Datagram) int { return cmp.Compare(a.TimeNS, b.TimeNS) })
	m, s := imported(t, ds, nil)
	protocols := map[string]uint64{}
	for _, x := range s.Exporters {
		protocols[x.Protocol.String()] += x.Records
		if x.Lost > 0 || x.Errors > 0 {
			t.Errorf("%+v", x)
		}
	}
	if len(protocols) != 3 {
		t.Errorf("records by protocol: %v", protocols)
	}
	var sums [4]uint64
	for _, c := range m.Conversations() {
		if strings.HasPrefix(c.Client.Addr.String(), "172.16.1.") && c.Proto == 6 {
			for i, n := range []uint64{c.Forward.Packets, c.Forward.Octets, c.Back.Packets, c.Back.Octets} {
				sums[i] += n
			}
		}
	}
	if want := [4]uint64{214, 11260, 217, 251380}; sums != want {
		t.Errorf("sums %v, want %v", sums, want)
	}
}

// observers names the places of one direction.
func observers(w *Way) string {
	var out []string
	for _, o := range w.Observers {
		name := o.Name
		if o.Role == flow.RoleTunnel {
			name = "tunnel"
		}
		out = append(out, fmt.Sprintf("%v %s %s", o.Exporter, name, [...]string{"in", "out"}[o.Direction]))
	}
	return strings.Join(out, ", ")
}

// h2's capture begins after its Geneve bridge has sent its templates. When they come at last, everything is decoded. The templates
// are those of h1's bridge, which is of the same kind.
func TestLabLateTemplates(t *testing.T) {
	ds := exports.Read(t, testkit.Corpus(t, "collect/ovs-lab/h2.pcap"), ipfix.Port)
	var from exports.Datagram
	sets := 0
	for _, d := range ds {
		if binary.BigEndian.Uint32(d.Data[12:]) == 202 {
			from, sets = d, sets+1
		}
	}
	for _, d := range exports.Read(t, testkit.Corpus(t, "collect/ovs-lab/h1.pcap"), ipfix.Port) {
		if binary.BigEndian.Uint32(d.Data[12:]) != 102 || binary.BigEndian.Uint16(d.Data[16:]) > 3 {
			continue
		}
		late := exports.Datagram{From: from.From, To: from.To, TimeNS: ds[len(ds)-1].TimeNS, Data: slices.Clone(d.Data)}
		binary.BigEndian.PutUint32(late.Data[12:], 202)
		ds = append(ds, late)
	}
	m, s := imported(t, ds, nil)
	for _, x := range s.Exporters {
		if x.Domain == 202 && (x.Records != uint64(sets) || x.LateRecords != uint64(sets) || x.PendingSets != 0 || x.MissingSets != uint64(sets) || x.Errors != 0) {
			t.Errorf("of %d sets: %+v", sets, x)
		}
	}
	geneve := 0
	for _, r := range m.recs {
		if r.Domain == 202 {
			geneve++
		}
	}
	if geneve != sets || sets == 0 {
		t.Errorf("%d of %d Geneve records stored", geneve, sets)
	}
}

// A flooded packet leaves a switch through each of its ports, and every port reports it; it counts where it came in, once. In the captures
// the machines' own multicast is flooded.
func TestLabFlooded(t *testing.T) {
	m, _ := imported(t, labDatagrams(t), nil)
	flooded := 0
	for _, c := range m.Conversations() {
		to := c.Server.Addr
		if c.Segment != flow.NewSegment(flow.KindVXLAN, 5001) || !to.Netip().IsMulticast() {
			continue
		}
		var in, out uint64
		for _, o := range c.Forward.Observers {
			switch {
			case o.Direction == 1:
				out += o.Packets
			case o.Role == flow.RolePort:
				in += o.Packets
			}
		}
		if out > in && in > 0 {
			flooded++
		}
		if in > 0 && c.Forward.Packets != in {
			t.Errorf("%v > %v: %d packets counted, %d came in and %d went out", c.Client.Addr, to, c.Forward.Packets, in, out)
		}
	}
	if flooded == 0 {
		t.Error("nothing is flooded")
	}
}
