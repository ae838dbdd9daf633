package api

import (
	"cmp"
	"context"
	"reflect"
	"slices"
	"time"

	"crosstap/internal/collect/report"

	"github.com/danielgtaylor/huma/v2"
)

// Topology says what is attached to what: hosts, their virtual switches, the ports of those, the machines behind them, and the
// tunnels that carried flows between hosts.
type Topology struct {
	Schema  int            `json:"schema"`
	Now     time.Time      `json:"now"`
	Since   time.Time      `json:"since"` // of the arcs
	Until   time.Time      `json:"until"`
	Sources []string       `json:"sources"` // who tells of ports: "inventory", names of platforms
	Hosts   []TopologyHost `json:"hosts"`
	Rows    []TopologyPort `json:"rows"` // by host, switch, port
	Arcs    []TopologyArc  `json:"arcs"` // the greatest first
}

// TopologyHost is one hypervisor.
type TopologyHost struct {
	Name      string             `json:"name"` // "" stands for machines whose host is not known
	Platform  string             `json:"platform"`
	VTEPs     []string           `json:"vteps"`
	Down      bool               `json:"down"` // it does not answer its platform
	Observers []TopologyObserver `json:"observers"`
}

// TopologyObserver is a place on a host that tells of flows.
type TopologyObserver struct {
	Name string `json:"name"`
	Role string `json:"role"`
}

// TopologyPort is one port of a virtual switch.
type TopologyPort struct {
	Host       string   `json:"host"`
	Platform   string   `json:"platform"`
	Switch     string   `json:"switch"`      // "" when only the port is known
	SwitchKind string   `json:"switch_kind"` // "ovs", "linux", "standard", "distributed", "none", "" when not known
	Group      string   `json:"group"`       // port group or network
	Port       string   `json:"port"`
	Kind       string   `json:"kind"` // "vm", "uplink", "tunnel", "kernel", "patch", "mirror", "other"
	VM         string   `json:"vm"`
	VMID       string   `json:"vm_id"`
	Tenant     string   `json:"tenant"`
	Segment    string   `json:"segment"`
	Fabric     string   `json:"fabric"`
	MAC        string   `json:"mac"`
	Addrs      []string `json:"addrs"`
	VLAN       int      `json:"vlan"`
	Up         *bool    `json:"up"`   // null when nobody tells
	Taps       []string `json:"taps"` // that copy from it; those of others in parentheses
	Octets     *uint64  `json:"octets"`
}

// TopologyArc is what one pair of tunnel endpoints carried, both ways.
type TopologyArc struct {
	AVTEP    string   `json:"a_vtep"`
	AHost    string   `json:"a_host"`
	BVTEP    string   `json:"b_vtep"`
	BHost    string   `json:"b_host"`
	Segments []string `json:"segments"`
	Octets   uint64   `json:"octets"`
	Packets  uint64   `json:"packets"`
}

// topologyQuestion asks what is attached to what.
type topologyQuestion struct {
	Span
	Format string `query:"format" enum:"json,jsonl,csv,parquet" default:"json" doc:"jsonl, csv and parquet are the ports"`
}

// arcsAtMost bounds the pairs of endpoints and segments that are looked at.
const arcsAtMost = 2000

// topology registers the question.
func (a *API) topology() {
	op := operation(a.huma, "topology", "Hosts, virtual switches, ports, machines, and tunnels between hosts", reflect.TypeFor[Topology](), formatsOf[topologyQuestion]())
	op.Tags = []string{"inventory"}
	huma.Register(a.huma, op, func(ctx context.Context, in *topologyQuestion) (*output, error) {
		now := a.cfg.Now()
		q, faults := in.query(now)
		if len(faults) > 0 {
			return nil, wrong(faults...)
		}
		q.By, q.Metric, q.Limit = []string{"src.vtep", "dst.vtep", "segment"}, "octets", arcsAtMost
		carried, err := limited(a, ctx, q, a.cfg.Reporter.Top)
		if err != nil {
			return nil, a.failed(ctx, err, q.Filter)
		}
		doc := Topology{Sources: []string{}, Hosts: []TopologyHost{}, Rows: []TopologyPort{}}
		if a.cfg.Topology != nil {
			doc = a.cfg.Topology(ctx, q.Until)
		}
		doc.Schema, doc.Now, doc.Since, doc.Until = report.SchemaVersion, now.UTC(), q.Since.UTC(), q.Until.UTC()
		doc.Arcs = arcs(carried.Rows, doc.Hosts)
		o := &output{}
		return o, o.write("topology", in.Format, doc)
	})
}

// arcs sums up what endpoints carried, whatever the direction and the segment.
func arcs(rows []report.TopRow, hosts []TopologyHost) []TopologyArc {
	owner := map[string]string{}
	for _, h := range hosts {
		for _, v := range h.VTEPs {
			owner[v] = h.Name
		}
	}
	found := map[[2]string]*TopologyArc{}
	for i := range rows {
		r := &rows[i]
		if len(r.Key) != 3 || r.Key[0] == "" || r.Key[1] == "" {
			continue // not in a tunnel
		}
		ends := [2]string{min(r.Key[0], r.Key[1]), max(r.Key[0], r.Key[1])}
		arc := found[ends]
		if arc == nil {
			arc = &TopologyArc{AVTEP: ends[0], AHost: owner[ends[0]], BVTEP: ends[1], BHost: owner[ends[1]], Segments: []string{}}
			found[ends] = arc
		}
		arc.Octets, arc.Packets = arc.Octets+r.Octets, arc.Packets+r.Packets
		if s := r.Key[2]; s != "" && !slices.Contains(arc.Segments, s) {
			arc.Segments = append(arc.Segments, s)
		}
	}
	out := make([]TopologyArc, 0, len(found))
	for _, arc := range found {
		slices.Sort(arc.Segments)
		out = append(out, *arc)
	}
	slices.SortFunc(out, func(x, y TopologyArc) int {
		return cmp.Or(cmp.Compare(y.Octets, x.Octets), cmp.Compare(x.AVTEP, y.AVTEP), cmp.Compare(x.BVTEP, y.BVTEP))
	})
	return out
}
