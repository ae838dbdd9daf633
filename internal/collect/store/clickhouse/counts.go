package clickhouse

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"

	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
)

// still is what the table has for the end of an owner's time when there is none.
const still = int64(1<<63 - 1)

// The table of what hypervisors count has a row for each source, owner and slot; slots are minutes and hours (width, in seconds). Rows of one key are added up
// when parts are merged, and by who reads.
const (
	countKey    = "agent, domain, class, source"
	countOwner  = "fabric, host, vm, vm_id, reason"
	countValues = "name, uuid, since, until, from_ns, to_ns, in_octets, out_octets, in_packets, out_packets"
)

// fourth are the statements of version 4: what hypervisors count at adapters.
func (d ddl) fourth() []string {
	columns := `width UInt32, slot DateTime64(3, 'UTC'), agent IPv6, domain UInt32, class UInt32, source UInt32, fabric LowCardinality(String), host LowCardinality(String), vm String, vm_id String, reason LowCardinality(String),
  name SimpleAggregateFunction(anyLast, String), uuid SimpleAggregateFunction(anyLast, String), since SimpleAggregateFunction(min, Int64), until SimpleAggregateFunction(max, Int64),
  from_ns SimpleAggregateFunction(min, Int64), to_ns SimpleAggregateFunction(max, Int64), in_octets SimpleAggregateFunction(sum, UInt64), out_octets SimpleAggregateFunction(sum, UInt64),
  in_packets SimpleAggregateFunction(sum, UInt64), out_packets SimpleAggregateFunction(sum, UInt64), noted SimpleAggregateFunction(max, DateTime('UTC'))`
	return d.made(countsTable, columns, "AggregatingMergeTree", "", "PARTITION BY (width, toYYYYMM(slot)) ORDER BY (width, slot, "+countKey+", "+countOwner+
		") TTL noted + toIntervalDay(if(width = 60, 30, 400)) SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, "+d.window(), "cityHash64(agent, source)")
}

// countColumns are those of a block of counts, in the order in which they are made.
type countColumns struct {
	width, domain, class, source   proto.ColUInt32
	slot                           proto.ColDateTime64
	agent                          proto.ColIPv6
	fabric, host, vm, vmID, reason proto.ColStr
	name, uuid                     proto.ColStr
	since, until, from, to         proto.ColInt64
	in, out, inPackets, outPackets proto.ColUInt64
}

func (c *countColumns) add(k *store.Count, width, slot int64, part store.CountCell) {
	o := &k.Owner
	c.width.Append(uint32(width / int64(time.Second)))
	c.slot.AppendRaw(proto.DateTime64(floorMS(slot)))
	c.agent.Append(proto.IPv6(k.Agent))
	c.domain.Append(k.Domain)
	c.class.Append(k.Class)
	c.source.Append(k.Index)
	c.fabric.Append(o.Fabric)
	c.host.Append(o.Host)
	c.vm.Append(o.VM)
	c.vmID.Append(o.VMID)
	c.reason.Append(o.Reason)
	c.name.Append(k.Name)
	c.uuid.Append(k.UUID)
	c.since.Append(o.FromNS)
	until := o.ToNS
	if until == 0 {
		until = still
	}
	c.until.Append(until)
	c.from.Append(part.FromNS)
	c.to.Append(part.ToNS)
	c.in.Append(part.InOctets)
	c.out.Append(part.OutOctets)
	c.inPackets.Append(part.InPackets)
	c.outPackets.Append(part.OutPackets)
}

func (c *countColumns) input() proto.Input {
	return proto.Input{
		{Name: "width", Data: &c.width}, {Name: "slot", Data: c.slot.WithPrecision(proto.PrecisionMilli)}, {Name: "agent", Data: &c.agent}, {Name: "domain", Data: &c.domain},
		{Name: "class", Data: &c.class}, {Name: "source", Data: &c.source}, {Name: "fabric", Data: &c.fabric}, {Name: "host", Data: &c.host}, {Name: "vm", Data: &c.vm}, {Name: "vm_id", Data: &c.vmID},
		{Name: "reason", Data: &c.reason}, {Name: "name", Data: &c.name}, {Name: "uuid", Data: &c.uuid}, {Name: "since", Data: &c.since}, {Name: "until", Data: &c.until}, {Name: "from_ns", Data: &c.from},
		{Name: "to_ns", Data: &c.to}, {Name: "in_octets", Data: &c.in}, {Name: "out_octets", Data: &c.out}, {Name: "in_packets", Data: &c.inPackets}, {Name: "out_packets", Data: &c.outPackets},
	}
}

// AppendCounts implements store.CountKeeper. The server takes a batch once.
func (s *Store) AppendCounts(ctx context.Context, c store.Counts) error {
	if s.cfg.ReadOnly {
		return errReadOnly
	}
	var cols countColumns
	for i := range c.List {
		for _, cell := range c.List[i].Cells {
			cell.Slots(func(width, slot int64, part store.CountCell) { cols.add(&c.List[i], width, slot, part) })
		}
	}
	if len(cols.width) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, insertWait)
	defer cancel()
	conn, err := s.dialer.dial(ctx, s.cfg.Database)
	if err != nil {
		return err
	}
	defer conn.Close()
	into := "INSERT INTO " + s.ddl.table(countsTable) + " (width, slot, " + countKey + ", " + countOwner + ", " + countValues + ", noted) SELECT *, now() FROM input('" +
		"width UInt32, slot DateTime64(3, \\'UTC\\'), agent IPv6, domain UInt32, class UInt32, source UInt32, fabric String, host String, vm String, vm_id String, reason String, name String, uuid String, " +
		"since Int64, until Int64, from_ns Int64, to_ns Int64, in_octets UInt64, out_octets UInt64, in_packets UInt64, out_packets UInt64') FORMAT Native"
	err = plainError(conn.Do(ctx, ch.Query{Body: into, Input: cols.input(), Settings: insertSettings(fmt.Sprintf("counts/%s/%d", c.Feed, c.Seq))}))
	if err != nil {
		return fmt.Errorf("clickhouse: counts: %w", err)
	}
	return nil
}

// Counts implements store.CountReader. Of each source it reads what the embedded store would have kept.
func (s *Store) Counts(ctx context.Context, fromNS, toNS int64) ([]store.Count, error) {
	if s.schema < 4 { // read only, of tables that an older version has made
		return nil, nil
	}
	kept := fmt.Sprintf(`FROM %[1]s AS c INNER JOIN (SELECT %[2]s, max(toUnixTimestamp64Milli(slot)) AS newest, argMaxIf(name, to_ns, name != '') AS called, argMaxIf(uuid, to_ns, uuid != '') AS known_as
  FROM %[1]s WHERE width = 3600 GROUP BY %[2]s) AS n USING (%[2]s)
WHERE toUnixTimestamp64Milli(slot) > newest - %[3]d AND (width = 60) = (toUnixTimestamp64Milli(slot) >= newest - %[4]d)`,
		s.ddl.table(countsTable), countKey, store.CountHours*store.CountHour/1e6, store.CountHour/1e6)
	by := countKey + ", " + countOwner
	owners := "SELECT " + by + ", toString(any(called)), toString(any(known_as)), toInt64(min(since)), toInt64(max(until)) " + kept + " GROUP BY " + by + " ORDER BY " + by
	cells := "SELECT " + by + ", toInt64(min(c.from_ns)) AS a, toInt64(max(c.to_ns)) AS b, toUInt64(sum(in_octets)), toUInt64(sum(out_octets)), toUInt64(sum(in_packets)), toUInt64(sum(out_packets)) " + kept +
		" AND toUnixTimestamp64Milli(slot) < {p2:Int64} AND toUnixTimestamp64Milli(slot) + width * 1000 > {p1:Int64} GROUP BY " + by + ", width, slot HAVING a < {p4:Int64} AND b > {p3:Int64} ORDER BY " + by + ", slot"
	var out []store.Count
	var c store.Count
	err := s.eachRow(ctx, owners, nil, append(ownedBy(&c), &c.Name, &c.UUID, &c.Owner.FromNS, &c.Owner.ToNS), func() error {
		if c.Owner.ToNS == still {
			c.Owner.ToNS = 0
		}
		out = append(out, c)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("clickhouse: counts: %w", err)
	}
	at := 0
	var x store.CountCell
	of := store.Count{}
	err = s.eachRow(ctx, cells, []any{floorMS(fromNS), -floorMS(-toNS), fromNS, toNS},
		append(ownedBy(&of), &x.FromNS, &x.ToNS, &x.InOctets, &x.OutOctets, &x.InPackets, &x.OutPackets), func() error {
			for at < len(out) && !sameSource(&out[at], &of) {
				at++
			}
			if at < len(out) { // else it came between the two
				out[at].Cells = append(out[at].Cells, x)
			}
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("clickhouse: counts: %w", err)
	}
	return out, nil
}

// ownedBy are where key and owner are scanned into.
func ownedBy(c *store.Count) []any {
	return []any{(*scannedAddr)(&c.Agent), &c.Domain, &c.Class, &c.Index, &c.Owner.Fabric, &c.Owner.Host, &c.Owner.VM, &c.Owner.VMID, &c.Owner.Reason}
}

// sameSource reports whether two are of one source and owner, whatever the time.
func sameSource(a, b *store.Count) bool {
	o := b.Owner
	o.FromNS, o.ToNS = a.Owner.FromNS, a.Owner.ToNS
	return a.CountKey == b.CountKey && a.Owner == o
}

// eachRow scans each row of an answer and calls f, until that fails. What is scanned is overwritten by the next row.
func (s *Store) eachRow(ctx context.Context, query string, args, into []any, f func() error) error {
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		if err := f(); err != nil {
			return err
		}
	}
	return rows.Err()
}

// scannedAddr is an address that is scanned.
type scannedAddr flow.Addr

// Scan implements sql.Scanner.
func (a *scannedAddr) Scan(v any) error {
	b, ok := v.([]byte)
	if !ok || len(b) != len(a) {
		return fmt.Errorf("%T is no address", v)
	}
	*a = scannedAddr(b)
	return nil
}
