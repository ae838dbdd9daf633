package collect

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/collect/listen"
	"crosstap/internal/collect/session"
	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
	"crosstap/internal/flowproto"
	"crosstap/internal/identity"
)

// portCounters is an sFlow datagram of agent 10.0.0.9 with the counters of the port vnet7, which has ifIndex 3.
func portCounters(uptimeMS, sequence uint32, in, out uint64) []byte {
	words := func(v ...uint32) (b []byte) {
		for _, n := range v {
			b = binary.BigEndian.AppendUint32(b, n)
		}
		return b
	}
	opaque := func(format uint32, body []byte) []byte { return append(words(format, uint32(len(body))), body...) }
	counters := binary.BigEndian.AppendUint64(words(3, 6), 10_000_000_000)
	counters = binary.BigEndian.AppendUint64(append(counters, words(1, 3)...), in)
	counters = binary.BigEndian.AppendUint64(append(counters, words(1, 0, 0, 0, 0, 0)...), out)
	counters = append(counters, words(1, 0, 0, 0, 0, 0)...)
	sample := append(words(sequence, 3, 2), opaque(1, counters)...)
	sample = append(sample, opaque(1005, append(words(5), "vnet7\x00\x00\x00"...))...)
	return append(words(5, 1, 0x0a000009, 7, sequence, uptimeMS, 1), opaque(2, sample)...)
}

// Counts reach the store with the owner of the adapter, once: what a store has refused, and what a collector had not stored when it was killed, comes again
// under the same number.
func TestPassCounters(t *testing.T) {
	dir, m := t.TempDir(), &memory{refuse: 1}
	const minute = int64(time.Minute)
	collector := func() (*Collector, func(atMin int64, octets uint64)) {
		cfg := DefaultConfig()
		cfg.Store, cfg.Dir, cfg.Listen = m, dir, []listen.Config{listen.DefaultConfig()}
		c, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		inv := identity.Inventory{
			Hosts: []identity.Host{{Name: "h1", VTEPs: []flow.Addr{flow.V4([]byte{10, 0, 0, 9})}}},
			VNICs: []identity.VNIC{{Span: identity.Span{ToNS: 1003 * minute}, VM: "web-1", VMID: "id-1", Host: "h1", Port: "vnet7"}, {Span: identity.Span{FromNS: 1003 * minute}, VM: "db-1", Host: "h1", Port: "vnet7"}},
		}
		c.SetInventory(identity.NewBook(inv))
		c.SetMetered(func(context.Context) map[string]string { return map[string]string{"db-1": "sampling"} })
		if err := c.RestoreCounters(dir); err != nil {
			t.Fatal(err)
		}
		s := flowproto.NewSession(flowproto.Limits{})
		s.OnCounters(c.counters.Add)
		return c, func(atMin int64, octets uint64) {
			t.Helper()
			if _, _, err := s.Decode(portCounters(uint32(60_000*atMin), uint32(atMin), octets, octets), (1000+atMin)*minute, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	c, say := collector()
	say(0, 0)
	say(1, 100)
	c.passCounters(t.Context()) // the store refuses
	say(2, 300)
	c.passCounters(t.Context())
	if len(m.counts) != 2 || m.counts[0].Seq != 1 || m.counts[1].Seq != 2 {
		t.Fatalf("%+v", m.counts)
	}
	m.refuse = 1
	say(3, 600)
	say(4, 1000)
	c.passCounters(t.Context())
	say(5, 1500) // and is killed

	c, say = collector()
	say(6, 2100)
	c.passCounters(t.Context())
	if len(m.counts) != 4 || m.counts[2].Feed != m.counts[1].Feed || m.counts[2].Seq != 3 || m.counts[3].Feed == m.counts[1].Feed {
		t.Fatalf("%+v", m.counts)
	}
	var got []store.Count
	for _, x := range m.counts {
		got = append(got, x.List...)
	}
	count := func(o store.Owner, fromMin, toMin int64, octets uint64) store.Count {
		return store.Count{CountKey: store.CountKey{Agent: flow.V4([]byte{10, 0, 0, 9}), Domain: 7, Index: 3}, Name: "vnet7", Owner: o,
			Cells: []store.CountCell{{FromNS: (1000 + fromMin) * minute, ToNS: (1000 + toMin) * minute, InOctets: octets, OutOctets: octets}}}
	}
	web := store.Owner{Fabric: "default", Host: "h1", VM: "web-1", VMID: "id-1", ToNS: 1003 * minute}
	db := store.Owner{Fabric: "default", Host: "h1", VM: "db-1", Reason: "sampling", FromNS: 1003 * minute}
	want := []store.Count{count(web, 0, 1, 100), count(web, 1, 2, 200), count(db, 2, 3, 300), count(db, 4, 6, 1100)}
	want[2].Cells = append(want[2].Cells, count(db, 3, 4, 400).Cells...)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestExporterName: an agent of counters is called by its host, an observer by its own name, and one that says its name is not called by its host.
func TestExporterName(t *testing.T) {
	a := func(n byte) flow.Addr { return flow.V4([]byte{10, 0, 0, n}) }
	book := identity.NewBook(identity.Inventory{
		Hosts:     []identity.Host{{Name: "h1", VTEPs: []flow.Addr{a(1)}}, {Name: "h2", VTEPs: []flow.Addr{a(2)}}},
		Observers: []identity.Observer{{Name: "h2 vtep", Host: "h2", Exporter: a(2)}},
	})
	f := func(addr flow.Addr, says, want string) {
		t.Helper()
		var x session.Exporter
		x.Address, x.Observer = addr, says
		if got := exporterName(book, &x, 1); got != want {
			t.Errorf("%v that calls itself %q is called %q, want %q", addr, says, got, want)
		}
	}
	f(a(1), "", "h1")
	f(a(1), "spine tap", "")
	f(a(2), "", "h2 vtep")
	f(a(2), "spine tap", "h2 vtep")
	f(a(3), "", "")
}
