package segment

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"crosstap/internal/collect/store"
)

// Sums by pair of workloads over all segments are as many as there are pairs, millions when some of them are outside. Roll-ups lie by segment, so that
// the sums of one segment after the other are made from all files at once, and only these are in memory.

var _ store.PairsView = (*view)(nil)

// pairColumns are the columns that sums by pair are made from, but for the times, which take half as much to read as all of them, and outsideColumns those
// that tell pairs with somebody outside, and tunnel endpoints, apart. What the range cuts of a file needs the bucket too.
var (
	pairColumns = []string{
		"segment", "src", "dst", "fabric", "src_vm", "src_vm_id", "dst_vm", "dst_vm_id", "client", "packets", "octets", "rows", "flows", "port_votes", "sampled_rows", "ambiguous_rows",
	}
	pairTimes      = []string{"first_seen", "last_seen"}
	outsideColumns = []string{"segment", "src", "dst", "fabric", "src_vm", "src_vm_id", "dst_vm", "dst_vm_id", "rows", "outer_src", "outer_dst"}
)

// PairsRest implements store.PairsView.
func (v *view) PairsRest(fromNS, toNS int64) string {
	from, to := ceilMS(fromNS), ceilMS(toNS)
	first, last := wholeHours(from, to)
	if parts := v.partsOfRows(from, to, first, last, store.Part{}); len(parts) > 0 {
		return "(" + strings.Join(parts, " UNION ALL ") + ")"
	}
	return ""
}

// SumPairs implements store.PairsView.
func (v *view) SumPairs(ctx context.Context, fromNS, toNS int64, rest []store.PairSums, times bool, each func([]store.PairSums, func(int) ([]store.Stretch, bool))) error {
	columns := pairColumns
	if times {
		columns = slices.Concat(columns, pairTimes)
	}
	return v.stored("pairs", v.overSegments(ctx, ceilMS(fromNS), ceilMS(toNS), rest, columns, func(s *bySegment) func(uint64) error {
		return (&pairAdder{bySegment: s, each: each}).add
	}))
}

// SumOutside implements store.PairsView.
func (v *view) SumOutside(ctx context.Context, fromNS, toNS int64, rest []store.PairSums, each func([]store.Outside)) error {
	return v.stored("networks", v.overSegments(ctx, ceilMS(fromNS), ceilMS(toNS), rest, outsideColumns, func(s *bySegment) func(uint64) error {
		return (&outsideAdder{bySegment: s, each: each}).add
	}))
}

// stored says whether a question failed because a roll-up cannot be read any more.
func (v *view) stored(what string, err error) error {
	switch {
	case err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, store.ErrNotSummed):
		return err
	case v.s.checkFiles(v.rolls):
		return fmt.Errorf("segment: %w: %w", store.ErrStale, err)
	}
	return fmt.Errorf("segment: %s: %w", what, err)
}
