package segment

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"crosstap/internal/collect/store"
)

// naiveOutside counts what a table of roll-ups has of workloads without a name, row by row, and lists the pairs with them in the order of segments.
func naiveOutside(t testing.TB, v store.View, table string) (all []store.Outside, pairs []store.PairSums) {
	t.Helper()
	rows, err := v.Query(t.Context(), `SELECT segment, fabric, src::VARCHAR, dst::VARCHAR, if(src_vm_id <> '', src_vm_id, src_vm), if(dst_vm_id <> '', dst_vm_id, dst_vm), outer_src::VARCHAR, outer_dst::VARCHAR
  FROM `+table+" WHERE rows > 0 ORDER BY segment")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	seen := map[string]bool{}
	first := func(kind string, what ...any) bool {
		k := kind + fmt.Sprint(what...)
		was := seen[k]
		seen[k] = true
		return !was
	}
	for rows.Next() {
		var p store.PairSums
		var src, dst, outerSrc, outerDst string
		if err := rows.Scan(&p.Segment, &p.Fabric, &src, &dst, &p.AWho, &p.BWho, &outerSrc, &outerDst); err != nil {
			t.Fatal(err)
		}
		if src+" "+p.AWho > dst+" "+p.BWho {
			src, dst, p.AWho, p.BWho = dst, src, p.BWho, p.AWho
		}
		p.A, p.B = uuid.MustParse(src), uuid.MustParse(dst)
		at := slices.IndexFunc(all, func(o store.Outside) bool { return o.Segment == p.Segment && o.Fabric == p.Fabric })
		if at < 0 {
			at, all = len(all), append(all, store.Outside{Segment: p.Segment, Fabric: p.Fabric})
		}
		o := &all[at]
		for _, text := range []string{outerSrc, outerDst} {
			if addr := uuid.MustParse(text); addr != (uuid.UUID{}) && first("vtep", at, text) {
				o.VTEPs = append(o.VTEPs, addr)
			}
		}
		if p.AWho != "" && p.BWho != "" || !first("pair", at, src, "/", p.AWho, "/", dst, "/", p.BWho) {
			continue
		}
		o.Pairs++
		pairs = append(pairs, p)
		if p.AWho == "" && p.A != ([16]byte{}) && first("addr", at, src) {
			o.Addrs++
		}
		if p.BWho == "" && p.B != ([16]byte{}) && first("addr", at, dst) {
			o.Addrs++
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all, pairs
}

// outside compares what the store counts of workloads without a name in a range with what its rows do.
func (m *mergeTest) outside(when string, from, to int64) {
	m.Helper()
	v, err := m.s.View(m.Context(), from, to)
	if err != nil {
		m.Fatal(err)
	}
	defer v.Close()
	pv := v.(store.PairsView)
	var rest []store.PairSums
	vteps := map[string]bool{}
	text := func(o store.Outside, addr [16]byte) string {
		return fmt.Sprintf("%d %s: %x", o.Segment, o.Fabric, addr)
	}
	if table := pv.PairsRest(from, to); table != "" {
		var tunnels []store.Outside
		tunnels, rest = naiveOutside(m, v, table)
		for _, o := range tunnels {
			for _, addr := range o.VTEPs {
				vteps[text(o, addr)] = true
			}
		}
	}
	var got, want []string
	var mu sync.Mutex
	count := func(into *[]string, o store.Outside) {
		if o.Pairs > 0 { // of others rest tells nothing
			*into = append(*into, fmt.Sprintf("%d %s: %d pairs, %d addresses", o.Segment, o.Fabric, o.Pairs, o.Addrs))
		}
	}
	err = pv.SumOutside(m.Context(), from, to, rest, func(all []store.Outside) {
		mu.Lock()
		defer mu.Unlock()
		for _, o := range all {
			count(&got, o)
			for _, addr := range o.VTEPs {
				vteps[text(o, addr)] = true
			}
		}
	})
	if err != nil {
		m.Fatal(err)
	}
	for t := range vteps {
		got = append(got, t)
	}
	all, _ := naiveOutside(m, v, v.Rollup(time.Hour, from, to))
	for _, o := range all {
		count(&want, o)
		for _, addr := range o.VTEPs {
			want = append(want, text(o, addr))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := apart(want, got); diff != "" || len(want) == 0 {
		m.Errorf("%s: %d counts, want %d (-rows +stored):\n%s", when, len(got), len(want), diff)
	}
}
