package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"crosstap/internal/collect/report"

	"github.com/google/go-cmp/cmp"
)

// at is a moment of the day of noon.
func at(clock string) *time.Time {
	t, err := time.Parse(time.RFC3339, "2026-01-02T"+clock+"Z")
	if err != nil {
		panic(err)
	}
	return &t
}

func decoded[T any](t *testing.T, a *API, path string) (doc T) {
	t.Helper()
	w := get(a, path)
	if w.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestAdapters(t *testing.T) {
	row := func(vm, id, mac, host, port string, from, until *time.Time) Adapter {
		return Adapter{VM: vm, VMID: id, MAC: mac, Host: host, Port: port, From: from, Until: until, Fabric: "default", Addrs: []string{"10.0.0.1"}, Source: "inventory"}
	}
	all := []Adapter{
		row("web-1", "id-1", "02:00:00:00:00:01", "h2", "vnet9", at("11:30:00"), nil),
		row("web-1", "id-1", "02:00:00:00:00:01", "h1", "vnet1", nil, at("11:30:00")),
		row("api-1", "id-2", "02:00:00:00:00:02", "h1", "vnet2", nil, nil),
		row("db-old", "id-3", "02:00:00:00:00:03", "h1", "vnet3", nil, at("10:00:00")),
		row("db-1", "id-3", "02:00:00:00:00:03", "h1", "vnet3", at("10:00:00"), nil),
	}
	a, _ := newTest(t, func(c *Config) { c.Adapters = func() []Adapter { return all } })
	f := func(query string, machines, moved int, want ...string) {
		t.Helper()
		doc := decoded[Adapters](t, a, "/api/v1/adapters"+query)
		got := []string{}
		for _, r := range doc.Rows {
			got = append(got, r.VM+" "+r.Host+" "+r.Change)
		}
		if diff := cmp.Diff(want, got); diff != "" || doc.Machines != machines || doc.Moved != moved {
			t.Errorf("%s: %d machines, %d moved, rows %s", query, doc.Machines, doc.Moved, diff)
		}
	}
	// What moved comes first; a row tells what differs from the one before it, which may lie before the range.
	f("", 3, 1, "web-1 h1 ", "web-1 h2 moved", "api-1 h1 ", "db-1 h1 renamed")
	f("?from=now-10m", 3, 0, "api-1 h1 ", "db-1 h1 renamed", "web-1 h2 moved")
	f("?from=now-3h", 3, 1, "web-1 h1 ", "web-1 h2 moved", "api-1 h1 ", "db-old h1 ", "db-1 h1 renamed")
	f("?name=H2", 1, 1, "web-1 h1 ", "web-1 h2 moved")
	f("?limit=1", 3, 1, "web-1 h1 ")
	if w := get(a, "/api/v1/adapters?format=csv"); !strings.HasPrefix(w.Body.String(), "vm,vm_id,tenant,host,switch,port,") || strings.Count(w.Body.String(), "\n") != 5 {
		t.Errorf("csv: %s", w.Body)
	}
	if w := get(a, "/api/v1/adapters?from=now&to=now-1h"); w.Code != http.StatusUnprocessableEntity {
		t.Errorf("an empty range: %d", w.Code)
	}
	none, _ := newTest(t, nil)
	if doc := decoded[Adapters](t, none, "/api/v1/adapters"); len(doc.Rows) != 0 || doc.Rows == nil {
		t.Errorf("without an inventory: %v", doc.Rows)
	}
}

func TestArcs(t *testing.T) {
	hosts := []TopologyHost{{Name: "h1", VTEPs: []string{"10.200.0.1"}}, {Name: "h2", VTEPs: []string{"10.200.0.2"}}}
	row := func(octets uint64, key ...string) report.TopRow {
		return report.TopRow{Key: key, Octets: octets, Packets: 1}
	}
	got := arcs([]report.TopRow{
		row(5, "10.200.0.2", "10.200.0.1", "vxlan:5001"), row(7, "10.200.0.1", "10.200.0.2", "vxlan:5001"), row(1, "10.200.0.1", "10.200.0.2", "vxlan:4"),
		row(100, "", "", "vxlan:5001"), row(20, "10.200.0.9", "10.200.0.1", ""),
	}, hosts)
	want := []TopologyArc{
		{AVTEP: "10.200.0.1", AHost: "h1", BVTEP: "10.200.0.9", Segments: []string{}, Octets: 20, Packets: 1},
		{AVTEP: "10.200.0.1", AHost: "h1", BVTEP: "10.200.0.2", BHost: "h2", Segments: []string{"vxlan:4", "vxlan:5001"}, Octets: 13, Packets: 3},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTopology(t *testing.T) {
	var asked time.Time
	a, fake := newTest(t, func(c *Config) {
		c.Topology = func(_ context.Context, at time.Time) Topology {
			asked = at
			return Topology{Sources: []string{"inventory"}, Hosts: []TopologyHost{{Name: "h1", VTEPs: []string{}, Observers: []TopologyObserver{}}},
				Rows: []TopologyPort{{Host: "h1", Port: "vnet1", Kind: "vm", VM: "web-1", Addrs: []string{"10.0.0.1"}, Taps: []string{}}}}
		}
	})
	doc := decoded[Topology](t, a, "/api/v1/topology?from=now-3h&to=2026-01-02T11:00:00Z&f=vni+%3D+1")
	if !asked.Equal(*at("11:00:00")) || len(doc.Rows) != 1 || doc.Rows[0].VM != "web-1" || fake.last.Load().Filter != "vni = 1" {
		t.Errorf("asked of %v: %+v", asked, doc)
	}
	if w := get(a, "/api/v1/topology?format=csv"); !strings.Contains(w.Body.String(), "h1,,,,,vnet1,vm,web-1,") {
		t.Errorf("csv: %s", w.Body)
	}
	none, _ := newTest(t, nil)
	if doc := decoded[Topology](t, none, "/api/v1/topology"); doc.Hosts == nil || doc.Rows == nil {
		t.Error("null lists")
	}
}

func TestExplain(t *testing.T) {
	a, _ := newTest(t, nil)
	type explanation struct {
		Expr     string   `json:"expr"`
		Link     string   `json:"link"`
		BPF      string   `json:"bpf"`
		EBPFLen  int      `json:"ebpf_len"`
		OpenFlow []string `json:"openflow"`
		Residual bool     `json:"residual"`
		Deep     string   `json:"deep"`
	}
	x := decoded[explanation](t, a, "/api/v1/filter/explain?f=tcp+dst+port+443")
	if x.Link != "ethernet" || !strings.Contains(x.BPF, "#0x1bb") || x.EBPFLen == 0 || len(x.OpenFlow) == 0 || x.Residual {
		t.Errorf("a port: %+v", x)
	}
	x = decoded[explanation](t, a, "/api/v1/filter/explain?f=inner+host+10.0.0.5")
	if !x.Residual || x.Deep == "" || x.OpenFlow == nil {
		t.Errorf("inside of a tunnel: %+v", x)
	}
	fault := func(query, location string, pos int) {
		t.Helper()
		w := get(a, "/api/v1/filter/explain?"+query)
		var p Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != http.StatusUnprocessableEntity || len(p.Errors) != 1 || p.Errors[0].Location != location {
			t.Fatalf("%s: %d %s", query, w.Code, w.Body)
		}
		if got := p.Errors[0].Pos; pos >= 0 && (got == nil || *got != pos) {
			t.Errorf("%s: position %v, want %d", query, got, pos)
		}
	}
	fault("f=tcp+prot+80", "query.f", 4)
	fault("link=tokenring", "query.link", -1)
	fault("f=host+example.org", "query.f", -1) // names are not looked up by the server
}
