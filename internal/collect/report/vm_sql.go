package report

import (
	"cmp"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"crosstap/internal/flow"
)

// vmSections gives the sections of the page, one after the other: kind, numbers, texts and times that each kind uses in its way.
func vmSections(limit int) string {
	return fmt.Sprintf(`
side AS (SELECT 'side' AS kind, cur, out, sum(octets)::UBIGINT AS n1, sum(packets)::UBIGINT AS n2, sum(variance)::DOUBLE AS f,
  (sum(octets) FILTER (id <> '' OR name <> ''))::UBIGINT AS n3, (sum(octets) FILTER (same))::UBIGINT AS n4, sum(retransmits)::UBIGINT AS n5, sum(zero_windows)::UBIGINT AS n6,
  sum(sampled_rows)::UBIGINT AS n7, sum(ambiguous_rows)::UBIGINT AS n8, min(first) AS t1, max(last) AS t2 FROM y GROUP BY cur, out),
bars AS (SELECT 'bar' AS kind, cur, out, bar, sum(octets)::UBIGINT AS n1 FROM y GROUP BY cur, out, bar),
peer0 AS MATERIALIZED (SELECT segment, addr, who, arg_max(name, (last, name)) AS name, max(id) AS id, arg_max(tenant, (last, tenant)) AS tenant, arg_max(host, (last, host)) AS host, bool_or(same) AS same,
  coalesce(sum(octets) FILTER (cur AND out), 0)::UBIGINT AS sent, coalesce(sum(octets) FILTER (cur AND NOT out), 0)::UBIGINT AS recv, coalesce(sum(packets) FILTER (cur), 0)::UBIGINT AS packets,
  coalesce(sum(octets) FILTER (NOT cur), 0)::UBIGINT AS before, count(*) FILTER (cur) AS ncur, count(*) FILTER (NOT cur) AS nbefore,
  coalesce(min(first) FILTER (cur), min(first)) AS first, coalesce(max(last) FILTER (cur), max(last)) AS last FROM y GROUP BY segment, addr, who),
peers AS (SELECT * FROM (SELECT *, row_number() OVER (ORDER BY sent + recv DESC, before DESC, segment, addr, who) AS rank, count(*) FILTER (ncur > 0) OVER () AS total,
  ncur > 0 AND nbefore = 0 AS new, ncur = 0 AS gone, row_number() OVER (PARTITION BY ncur > 0 AND nbefore = 0, ncur = 0 ORDER BY sent + recv DESC, before DESC, segment, addr, who) AS ofkind FROM peer0)
  WHERE rank <= %[1]d AND ncur > 0 OR ofkind <= %[1]d AND (new OR gone)),
serv0 AS MATERIALIZED (SELECT serves, proto, service_port, max(app) AS app, count(DISTINCT (segment, addr, who)) FILTER (cur)::UBIGINT AS peers, coalesce(sum(octets) FILTER (cur), 0)::UBIGINT AS octets,
  coalesce(sum(packets) FILTER (cur), 0)::UBIGINT AS packets, coalesce(sum(octets) FILTER (NOT cur), 0)::UBIGINT AS before, count(*) FILTER (cur) AS ncur, count(*) FILTER (NOT cur) AS nbefore,
  coalesce(min(first) FILTER (cur), min(first)) AS first, max(last) AS last FROM y GROUP BY serves, proto, service_port),
serv AS (SELECT *, row_number() OVER (PARTITION BY serves ORDER BY octets DESC, before DESC, proto, service_port) AS rank FROM serv0)
SELECT kind, cur, out, n1, n2, f, coalesce(n3, 0)::UBIGINT, coalesce(n4, 0)::UBIGINT, n5, n6, n7, n8, 0::BIGINT AS i, '' AS s1, '' AS s2, '' AS s3, '' AS s4, '' AS s5, false AS b, t1, t2 FROM side
UNION ALL SELECT kind, cur, out, n1, 0, 0, 0, 0, 0, 0, 0, 0, bar, '', '', '', '', '', false, NULL, NULL FROM bars
UNION ALL SELECT 'peer', ncur > 0, nbefore > 0, sent, recv, 0, packets, before, segment, total, 0, 0, rank, name, id, addr::VARCHAR, tenant, host, same, first, last FROM peers
UNION ALL SELECT 'service', ncur > 0, nbefore > 0, octets, packets, 0, peers, before, service_port, proto, 0, 0, rank, app, '', '', '', '', serves, first, last FROM serv WHERE rank <= %[2]d
ORDER BY kind, i, n1 DESC, s1, s3`, limit, maxServices)
}

// vmScan reads the sections.
type vmScan struct {
	v                  *vmAsk
	total              sums
	sampled, ambiguous uint64
}

// vmRow is a row of vmSections.
type vmRow struct {
	kind        string
	cur, out    bool
	n           [8]uint64
	f           float64
	i           int64
	s           [5]string
	b           bool
	first, last sql.NullTime
}

func (s *vmScan) row(rows *sql.Rows) error {
	var r vmRow
	err := rows.Scan(&r.kind, &r.cur, &r.out, &r.n[0], &r.n[1], &r.f, &r.n[2], &r.n[3], &r.n[4], &r.n[5], &r.n[6], &r.n[7], &r.i, &r.s[0], &r.s[1], &r.s[2], &r.s[3], &r.s[4], &r.b, &r.first, &r.last)
	if err != nil {
		return err
	}
	switch r.kind {
	case "side":
		s.side(&r)
	case "bar":
		s.bar(&r)
	case "peer":
		s.peer(&r)
	case "service":
		s.service(&r)
	}
	return nil
}

func (s *vmScan) side(r *vmRow) {
	p := s.v.page
	side := Side{r.n[0], uint64(math.Round(z95 * math.Sqrt(r.f))), r.n[1]}
	switch {
	case r.cur && r.out:
		p.Sent = side
	case r.cur:
		p.Received = side
	case r.out:
		p.SentBefore = side
	default:
		p.ReceivedBefore = side
	}
	if !r.cur {
		return
	}
	p.EastWest, p.NorthSouth, p.SameHost = p.EastWest+r.n[2], p.NorthSouth+r.n[0]-r.n[2], p.SameHost+r.n[3]
	p.Retransmits, p.ZeroWindows = p.Retransmits+r.n[4], p.ZeroWindows+r.n[5]
	s.total.Octets, s.total.Packets = s.total.Octets+r.n[0], s.total.Packets+r.n[1]
	s.sampled, s.ambiguous = s.sampled+r.n[6], s.ambiguous+r.n[7]
}

func (s *vmScan) bar(r *vmRow) {
	p := s.v.page
	if r.i < 0 || r.i >= int64(len(p.Times)) {
		return
	}
	switch {
	case !r.cur:
		p.BeforeSeries[r.i] += r.n[0]
	case r.out:
		p.SentSeries[r.i] += r.n[0]
	default:
		p.ReceivedSeries[r.i] += r.n[0]
	}
}

// state names what changed against the period before; out says that it had it.
func (r *vmRow) state() string {
	switch {
	case r.cur && !r.out:
		return "new"
	case !r.cur:
		return "gone"
	}
	return ""
}

func (s *vmScan) peer(r *vmRow) {
	s.total.Rows, s.v.page.PeersTotal = r.n[5], r.n[5]
	s.v.page.Peers = append(s.v.page.Peers, Peer{Segment: segmentText(flow.Segment(r.n[4])), Name: r.s[0], ID: r.s[1], Addr: addrText(r.s[2]), Tenant: r.s[3], Host: r.s[4], SameHost: r.b,
		Known: r.s[0] != "" || r.s[1] != "", OctetsSent: r.n[0], OctetsReceived: r.n[1], Packets: r.n[2], OctetsBefore: r.n[3], State: r.state(),
		FirstSeen: r.first.Time.UTC(), LastSeen: r.last.Time.UTC()})
}

func (s *vmScan) service(r *vmRow) {
	one := Service{Proto: flow.ProtoText(uint8(r.n[5])), Port: uint16(r.n[4]), App: r.s[0], Peers: r.n[2], Octets: r.n[0], Packets: r.n[1], OctetsBefore: r.n[3], State: r.state()}
	list, kind := &s.v.page.Used, "use"
	if r.b {
		list, kind = &s.v.page.Served, "service"
	}
	*list = append(*list, one)
	if one.State == "" {
		return
	}
	at := r.first.Time
	if one.State == "gone" {
		at = r.last.Time
	}
	s.v.page.Changes = append(s.v.page.Changes, Change{one.State + "_" + kind, at.UTC(), serviceText(&one)})
}

func serviceText(s *Service) string {
	text := s.Proto
	if s.Port != 0 {
		text += fmt.Sprintf(" port %d", s.Port)
	}
	if s.App != "" {
		text += " (" + s.App + ")"
	}
	return text
}

// finder collects what flows say of the name.
type finder struct {
	v      *vmAsk
	places []Placement
	ids    []string // fabric and who, for each place
	whos   []string
	uuids  []string
	id     []string
	fabric []string
}

func newFinder(v *vmAsk) *finder { return &finder{v: v} }

func (f *finder) row(rows *sql.Rows) error {
	var p Placement
	var fabric, addr, id string
	var seg uint64
	if err := rows.Scan(&fabric, &seg, &p.Tenant, &addr, &p.Name, &id, &p.Host, &p.FirstSeen, &p.LastSeen); err != nil {
		return err
	}
	p.Segment, p.Addr, p.FirstSeen, p.LastSeen = segmentText(flow.Segment(seg)), addrText(addr), p.FirstSeen.UTC(), p.LastSeen.UTC()
	who := cmp.Or(id, p.Name)
	f.places, f.uuids, f.id, f.whos, f.fabric = append(f.places, p), append(f.uuids, addr), append(f.id, id), append(f.whos, who), append(f.fabric, fabric)
	f.ids = append(f.ids, fabric+"\x00"+who)
	return nil
}

// choose takes the one machine that was found. A name or address that several have is a mistake of the question.
func (f *finder) choose() error {
	v := f.v
	var different []string
	for i, id := range f.ids {
		if f.whos[i] != "" && !slices.Contains(different, id) { // a row without a name is filled in by others
			different = append(different, id)
		}
	}
	if len(different) > 1 {
		var names []string
		for _, id := range different {
			fabric, who, _ := strings.Cut(id, "\x00")
			names = append(names, fmt.Sprintf("%s in fabric %s", who, fabric))
		}
		return &QueryError{"name", fmt.Sprintf("%d machines go by %s", len(different), quoteName(v.Name)), "name one by its id: " + strings.Join(names, ", ")}
	}
	for i, p := range f.places {
		if len(different) == 1 && f.ids[i] != different[0] && f.whos[i] != "" {
			continue
		}
		f.take(i, p)
	}
	if v.page.Name == "" && len(f.places) > 0 {
		v.page.Name = f.places[0].Addr
	}
	return nil
}

func (f *finder) take(i int, p Placement) {
	v, page := f.v, f.v.page
	v.me.fabric, v.me.addr = cmp.Or(v.me.fabric, f.fabric[i]), f.uuids[i]
	v.me.who = cmp.Or(v.me.who, f.whos[i])
	page.Fabric, page.ID = v.me.fabric, cmp.Or(page.ID, f.id[i])
	page.Name, page.Host = cmp.Or(page.Name, p.Name), cmp.Or(page.Host, p.Host)
	add := func(list *[]string, s string) {
		if s != "" && !slices.Contains(*list, s) {
			*list = append(*list, s)
		}
	}
	add(&v.me.addrs, f.uuids[i])
	add(&page.Addrs, p.Addr)
	add(&page.Tenants, p.Tenant)
	add(&page.Segments, p.Segment)
	for j := range page.Places {
		if q := &page.Places[j]; q.Host == p.Host && q.Addr == p.Addr && q.Name == p.Name && (p.Segment == "" || q.Segment == p.Segment) {
			q.FirstSeen = earlier(q.FirstSeen, p.FirstSeen)
			return
		}
	}
	page.Places = append(page.Places, p)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// changes lists what is new and gone, the newest first. Peers stay listed as far as they are among the greatest.
func (v *vmAsk) changes() {
	p := v.page
	peers := p.Peers[:0:0]
	for i := range p.Peers {
		one := &p.Peers[i]
		name := one.Addr
		if one.Name != "" {
			name = one.Name + " " + one.Addr
		}
		switch one.State {
		case "new":
			p.Changes = append(p.Changes, Change{"new_peer", one.FirstSeen, name})
		case "gone":
			p.Changes = append(p.Changes, Change{"gone_peer", one.LastSeen, name})
		}
		if one.State != "gone" && len(peers) < v.Limit {
			peers = append(peers, *one)
		}
	}
	p.Peers = append([]Peer{}, peers...)
	for i := 1; i < len(p.Places); i++ {
		now, was := &p.Places[i-1], &p.Places[i]
		if now.Host != was.Host && now.Host != "" && was.Host != "" {
			p.Changes = append(p.Changes, Change{"moved", now.FirstSeen, "from " + was.Host + " to " + now.Host})
		}
		if now.Name != was.Name && now.Name != "" && was.Name != "" {
			p.Changes = append(p.Changes, Change{"renamed", now.FirstSeen, "from " + was.Name + " to " + now.Name})
		}
	}
	now, before := p.Sent.Octets+p.Received.Octets, p.SentBefore.Octets+p.ReceivedBefore.Octets
	if before > 0 && (now >= 2*before || now <= before/2) {
		p.Changes = append(p.Changes, Change{"volume", msTime(v.untilMS), fmt.Sprintf("%d octets, %d in the period before", now, before)})
	}
	slices.SortStableFunc(p.Changes, func(a, b Change) int {
		return cmp.Or(b.At.Compare(a.At), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Text, b.Text))
	})
}
