package clickhouse

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"crosstap/internal/collect/store"
	"crosstap/internal/collect/store/elect"
	"crosstap/internal/flow"
)

const (
	// amendFor is how far back hours that are rolled up are corrected by the inventory.
	amendFor = 24 * time.Hour
	// amendEvery is the least time between two such corrections: some platforms tell of changes all the time.
	amendEvery = 15 * time.Minute
)

// settleOver brings hours to what a sealed hour of a store directory is: names by the inventory, canonical rows across all observers, and a roll-up.
// Hours are over when they ended before beforeNS. It returns false when another process has the turn.
func (s *Store) settleOver(ctx context.Context, beforeNS int64) (bool, error) {
	s.settling.Lock()
	defer s.settling.Unlock()
	hours, err := s.readHours(ctx, -1<<62, beforeNS)
	if err != nil {
		return false, err
	}
	var open, sealed []hour
	sweep := s.sweeps()
	for _, h := range hours {
		switch {
		case h.rows == 0 || (h.atMS+hourMS)*1e6 > beforeNS && beforeNS < 1<<62:
		case !h.valid():
			open = append(open, h)
		case sweep && h.atMS+hourMS > s.cfg.Now().Add(-amendFor).UnixMilli():
			sealed = append(sealed, h)
		}
	}
	look, err := s.notLookedAt(ctx, slices.Concat(open, sealed))
	if err != nil {
		return false, err
	}
	if len(open) == 0 && len(look) == 0 {
		return true, nil
	}
	t, err := s.takeTurn(ctx)
	if t == nil || err != nil {
		return false, err
	}
	err = s.settleHours(ctx, open, look)
	if endErr := t.end(ctx); err == nil {
		err = endErr
	}
	return true, err
}

func (s *Store) settleHours(ctx context.Context, open, look []hour) error {
	ctx, cancel := context.WithTimeout(ctx, rollWait)
	defer cancel()
	if err := s.goOn(ctx); err != nil {
		return err
	}
	roll := map[int64]bool{}
	for _, h := range open {
		roll[h.atMS] = true
	}
	if len(look) > 0 {
		version := s.known()
		changed, err := s.correct(ctx, look, amendable, s.amendHour)
		for _, at := range changed {
			roll[at] = true
		}
		if err == nil {
			err = s.lookedAt(ctx, look, version)
		}
		if err != nil {
			return err
		}
	}
	if _, err := s.correct(ctx, open, []string{"marks"}, s.electHour); err != nil {
		return err
	}
	now, err := s.readHours(ctx, -1<<62, 1<<62)
	if err != nil {
		return err
	}
	for _, h := range now {
		if !roll[h.atMS] || h.valid() {
			continue
		}
		if err := s.roll(ctx, h); err != nil {
			return err
		}
	}
	return nil
}

// known is the version of the inventory, 0 without one.
func (s *Store) known() uint64 {
	if s.cfg.Inventory == nil {
		return 0
	}
	return s.cfg.Inventory.Version()
}

// sweeps reports whether hours that are rolled up are to be looked at again.
func (s *Store) sweeps() bool {
	if s.known() == 0 || time.Since(s.swept) < amendEvery {
		return false
	}
	s.swept = time.Now()
	return true
}

// notLookedAt gives those hours of whose rows some were not brought to the inventory as it is.
func (s *Store) notLookedAt(ctx context.Context, hours []hour) (out []hour, err error) {
	version := s.known()
	if version == 0 || len(hours) == 0 {
		return nil, nil
	}
	seen := map[int64]uint64{}
	var at int64
	var n uint64
	err = s.eachRow(ctx, fmt.Sprintf("SELECT hour, max(rows) FROM %s WHERE version = {p1:UInt64} GROUP BY hour", s.ddl.table(lookedTable)), []any{version}, []any{&at, &n}, func() error {
		seen[at] = n
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, h := range hours {
		if seen[h.atMS] != h.rows {
			out = append(out, h)
		}
	}
	return out, nil
}

// lookedAt notes that the rows of hours agree with a version of the inventory. What came meanwhile is looked at again.
func (s *Store) lookedAt(ctx context.Context, hours []hour, version uint64) error {
	var values []string
	for _, h := range hours {
		values = append(values, fmt.Sprintf("(%d, %d, %d)", h.atMS, version, h.rows))
	}
	_, err := s.db.ExecContext(ctx, fmt.Sprintf("INSERT INTO %s SELECT hour, version, rows, now() FROM VALUES('hour Int64, version UInt64, rows UInt64', %s)", s.ddl.table(lookedTable), strings.Join(values, ", ")))
	return err
}

// ballot is one row of the election with its key.
type ballot struct {
	key   uint64
	marks uint16
}

// electHour settles the canonical rows of an hour. Rows of the hours beside that reach into it count as settled.
func (s *Store) electHour(ctx context.Context, h hour, k *correction) error {
	from := int64(0)
	before := begun{gen: k.gen}
	for _, at := range k.hours { // canonical rows of hours beside are read as they shall be
		if at == h.atMS-hourMS || at == h.atMS+hourMS {
			before.hours = append(before.hours, at)
		}
	}
	table := s.ddl.table(flowsTable)
	if len(before.hours) > 0 {
		table = s.ddl.overlaid([]begun{before})
	}
	if err := s.db.QueryRowContext(ctx, "SELECT toUnixTimestamp64Milli(min(t_start)) FROM "+s.ddl.table(flowsTable)+" WHERE "+serverHour(h.atMS)).Scan(&from); err != nil {
		return err
	}
	beside := fmt.Sprintf("((%s) OR (%s)) AND bitAnd(marks, 1) = 1 AND t_end >= fromUnixTimestamp64Milli(toInt64(%d), 'UTC')", serverHour(h.atMS-hourMS), serverHour(h.atMS+hourMS), from-elect.SlackMS)
	which := fmt.Sprintf("flow_id <> 0 AND ((%s) OR (%s))", serverHour(h.atMS), beside)
	query := fmt.Sprintf(`SELECT flow_id, %[1]s AS row_key, observer_id, toUnixTimestamp64Milli(t_start), toUnixTimestamp64Milli(t_end), packets, octets, sampling, marks, direction, role FROM %[2]s
WHERE %[3]s AND flow_id IN (SELECT flow_id FROM %[2]s WHERE %[3]s GROUP BY flow_id HAVING uniqExact(observer_id, direction, role, sampling > 1) > 1 OR min(bitAnd(marks, 1)) = 0)
ORDER BY flow_id SETTINGS max_bytes_before_external_sort = 1073741824`, rowKey, table, which)
	var all []elect.Row
	var ballots []ballot
	var uncertain store.Uncertain
	decide := func() (err error) {
		elect.Flow(all, func(r *elect.Row, d elect.Decision) {
			if d.Uncertain > 0 {
				uncertain.Add(store.Uncertain{Rows: 1, Packets: d.Uncertain, Octets: d.Octets(r)})
			}
			if d.Canonical == r.Was || err != nil {
				return
			}
			b := ballots[r.At]
			err = k.add(ctx, h.atMS, r.FlowID, b.key, &flow.Record{Marks: flow.Mark(b.marks ^ uint16(flow.MarkCanonical))})
		})
		all, ballots = all[:0], ballots[:0]
		return err
	}
	var row elect.Row
	var b ballot
	into := []any{&row.FlowID, &b.key, &row.ObserverID, &row.TStart, &row.TEnd, &row.Packets, &row.Octets, &row.Sampling, &b.marks, &row.Direction, &row.Role}
	err := s.eachRow(ctx, query, nil, into, func() error {
		r := row
		if len(all) > 0 && all[0].FlowID != r.FlowID {
			if err := decide(); err != nil {
				return err
			}
		}
		r.Marks, r.Was, r.At = b.marks, b.marks&uint16(flow.MarkCanonical) != 0, int32(len(all))
		if r.TEnd < h.atMS || r.TEnd >= h.atMS+hourMS {
			r.File = -1
		}
		all, ballots = append(all, r), append(ballots, b)
		return nil
	})
	if err != nil {
		return err
	}
	if len(all) > 0 {
		if err := decide(); err != nil {
			return err
		}
	}
	return s.noteUncertain(ctx, h.atMS, k.gen, uncertain)
}

// noteUncertain stores what the election of an hour has left open.
func (s *Store) noteUncertain(ctx context.Context, atMS int64, gen uint64, u store.Uncertain) error {
	_, err := s.db.ExecContext(ctx, fmt.Sprintf("INSERT INTO %s (hour, gen, rows, packets, octets) SELECT %d, %d, %d, %d, %d", s.ddl.table(uncertainTable), atMS, gen, u.Rows, u.Packets, u.Octets))
	return err
}

// amendable are the columns that the inventory may change.
var amendable = []string{
	"segment", "fabric", "observer_host", "tenant", "src_tenant", "dst_tenant", "src_vm", "src_vm_id", "src_host", "dst_vm", "dst_vm_id", "dst_host",
}

// amendHour brings the rows of an hour to what the inventory says.
func (s *Store) amendHour(ctx context.Context, h hour, k *correction) error {
	query := fmt.Sprintf(`SELECT flow_id, %s, toUnixTimestamp64Milli(t_start), toUnixTimestamp64Milli(t_end), exporter, domain, point, direction, role, vlan, src_mac, dst_mac, src, dst, outer_src, outer_dst,
  tunnel_type, observer, %s FROM %s WHERE %s`, rowKey, strings.Join(amendable, ", "), s.ddl.table(flowsTable), serverHour(h.atMS))
	var row flow.Record
	var flowID, key uint64
	addr := func(a *flow.Addr) *scannedAddr { return (*scannedAddr)(a) }
	into := []any{&flowID, &key, &row.StartNS, &row.EndNS, addr(&row.Exporter), &row.Domain, &row.Point, &row.Direction, &row.Role, &row.VLAN, &row.SrcMAC, &row.DstMAC, addr(&row.Src), addr(&row.Dst),
		addr(&row.Tunnel.Src), addr(&row.Tunnel.Dst), &row.Tunnel.Type, &row.Observer, &row.Segment, &row.Fabric, &row.ObserverHost, &row.Tenant, &row.SrcTenant, &row.DstTenant, &row.SrcVM, &row.SrcVMID, &row.SrcHost,
		&row.DstVM, &row.DstVMID, &row.DstHost}
	return s.eachRow(ctx, query, nil, into, func() error {
		r := row
		r.StartNS, r.EndNS = r.StartNS*1e6, r.EndNS*1e6
		if !s.cfg.Inventory.Amend(&r) {
			return nil
		}
		return k.add(ctx, h.atMS, flowID, key, &r)
	})
}
