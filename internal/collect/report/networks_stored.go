package report

import (
	"bytes"
	"context"
	"database/sql"
	"maps"
	"slices"
	"sync"

	"github.com/google/uuid"

	"crosstap/internal/collect/store"
)

// outside is what only all pairs of a network tell.
type outside struct {
	pairs   uint64 // with an end that has no name
	unknown map[[16]byte]struct{}
	vteps   map[[16]byte]struct{}
}

// outsideStored adds to networks what networksOutside gives, where the store adds up by pair itself; false when it does not.
func (a *ask) outsideStored(ctx context.Context, all map[networkKey]*Network) (ok bool, err error) {
	type counts struct {
		pairs, unknown uint64
		vteps          map[[16]byte]struct{}
	}
	var mu sync.Mutex
	found := map[networkKey]*counts{}
	ok, err = a.sumPairs(ctx, true, func(p store.SegmentPairs) {
		of := outsideOfSegment(p)
		mu.Lock()
		defer mu.Unlock()
		for k, o := range of {
			found[k] = &counts{o.pairs, uint64(len(o.unknown)), o.vteps}
		}
	})
	if !ok || err != nil {
		return false, err
	}
	err = a.restOfVTEPs(ctx, func(k networkKey, addr [16]byte) {
		if c := found[k]; c != nil {
			c.vteps[addr] = struct{}{}
		}
	})
	for k, c := range found {
		if n := all[k]; n != nil {
			n.Pairs, n.UnknownAddrs = n.Pairs+c.pairs, n.UnknownAddrs+c.unknown
			for _, addr := range slices.SortedFunc(maps.Keys(c.vteps), func(x, y [16]byte) int { return bytes.Compare(x[:], y[:]) }) {
				n.VTEPs = append(n.VTEPs, addrText(uuid.UUID(addr).String()))
			}
		}
	}
	return true, err
}

// outsideOfSegment tells it of the networks of a segment.
func outsideOfSegment(p store.SegmentPairs) map[networkKey]*outside {
	all := map[networkKey]*outside{}
	of := func(fabric string, segment uint64) *outside {
		k := networkKey{fabric, segment}
		if all[k] == nil {
			all[k] = &outside{unknown: map[[16]byte]struct{}{}, vteps: map[[16]byte]struct{}{}}
		}
		return all[k]
	}
	var o *outside
	for i := range p.Pairs {
		s := &p.Pairs[i]
		if i == 0 || s.Fabric != p.Pairs[i-1].Fabric {
			o = of(s.Fabric, s.Segment)
		}
		if s.AWho == "" || s.BWho == "" {
			o.pairs++
		}
		if s.AWho == "" && s.A != [16]byte{} {
			o.unknown[s.A] = struct{}{}
		}
		if s.BWho == "" && s.B != [16]byte{} {
			o.unknown[s.B] = struct{}{}
		}
	}
	for _, v := range p.VTEPs {
		of(v.Fabric, v.Segment).vteps[v.Addr] = struct{}{}
	}
	return all
}

// restOfVTEPs tells the tunnel endpoints of rows that the store did not add up by itself.
func (a *ask) restOfVTEPs(ctx context.Context, take func(k networkKey, addr [16]byte)) error {
	table := a.view.(store.PairsView).PairsRest(clampNS(a.sinceMS), clampNS(a.untilMS)) //nolint:forcetypeassert // it has told its pairs
	if table == "" {
		return nil
	}
	defer func(was string) { a.table = was }(a.table)
	a.args, a.table = nil, table
	query := a.facts(a.sinceMS, a.untilMS) + `
SELECT DISTINCT fabric, segment, unnest([outer_src, outer_dst])::VARCHAR FROM (SELECT DISTINCT fabric, segment, outer_src, outer_dst FROM x WHERE outer_src <> ` + zeroAddr + ` OR outer_dst <> ` + zeroAddr + `)`
	return a.each(ctx, query, func(rows *sql.Rows) error {
		var k networkKey
		var text string
		if err := rows.Scan(&k.fabric, &k.segment, &text); err != nil {
			return err
		}
		addr, err := uuid.Parse(text)
		if addr != (uuid.UUID{}) {
			take(k, addr)
		}
		return err
	})
}
