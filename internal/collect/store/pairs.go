package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"iter"

	"crosstap/internal/flow"
)

// PairSums is what the canonical rows of a roll-up between two workloads add up to, whichever way they went. A is the end with the lesser address, of equal
// ones that with the lesser who.
type PairSums struct {
	Segment             uint64
	Fabric              string
	A, B                [16]byte
	AWho, BWho          string // id of the workload, else its name, "" for neither
	Octets, Packets     uint64 // both ways
	OctetsAB, PacketsAB uint64 // from A to B
	// Flows are those of rows from A to B and back that the row's source opened, then those that its destination did.
	Flows                      [4]uint64
	FirstMS, LastMS            int64 // least first_seen and greatest last_seen
	Votes                      int64 // rows whose client is A, less those whose client is B
	PortVotes                  int64 // port_votes, of rows from B to A with the other sign
	SampledRows, AmbiguousRows uint64
}

// SameEnds reports whether both are of one pair.
func (s *PairSums) SameEnds(o *PairSums) bool {
	return s.Segment == o.Segment && s.A == o.A && s.B == o.B && s.AWho == o.AWho && s.BWho == o.BWho && s.Fabric == o.Fabric
}

// Add adds the sums of other rows of the pair.
func (s *PairSums) Add(o *PairSums) {
	s.Octets, s.Packets, s.OctetsAB, s.PacketsAB = s.Octets+o.Octets, s.Packets+o.Packets, s.OctetsAB+o.OctetsAB, s.PacketsAB+o.PacketsAB
	for i, n := range o.Flows {
		s.Flows[i] += n
	}
	s.FirstMS, s.LastMS = min(s.FirstMS, o.FirstMS), max(s.LastMS, o.LastMS)
	s.Votes, s.PortVotes = s.Votes+o.Votes, s.PortVotes+o.PortVotes
	s.SampledRows, s.AmbiguousRows = s.SampledRows+o.SampledRows, s.AmbiguousRows+o.AmbiguousRows
}

// FromA reports whether A is the client: as most rows say, else as most ports do.
func (s *PairSums) FromA() bool {
	if s.Votes != 0 {
		return s.Votes > 0
	}
	return s.PortVotes >= 0
}

// FlowCount is the number of flows: of those that one end opened, the greater number of both directions.
func (s *PairSums) FlowCount() uint64 {
	return max(s.Flows[0], s.Flows[1]) + max(s.Flows[2], s.Flows[3])
}

// CompareEnds is the order of ends.
func CompareEnds(a [16]byte, aWho string, b [16]byte, bWho string) int {
	return cmp.Or(bytes.Compare(a[:], b[:]), cmp.Compare(aWho, bWho))
}

// ErrNotSummed says that a store cannot add this up or read it by itself: there are too many pairs or rows to be in memory, or files are not such that it could.
var ErrNotSummed = errors.New("pairs are not added up")

// PairsView is a View that can add stored roll-ups up by pair of workloads, one segment after the other, in little memory.
type PairsView interface {
	// PairsRest is a table expression for the part of View.Rollup of a range that SumPairs does not read, "" for none.
	PairsRest(fromNS, toNS int64) string
	// SumPairs adds up what else the range has, and rest, which is in the order of segments. It calls each with all pairs of one segment after the other, in no
	// order, by several goroutines at once, and with what tells where the rows of one of them are, those that tell of other observers alone too, or that it does not know. Both are valid until each returns. FirstMS and LastMS are told
	// when times are asked for.
	SumPairs(ctx context.Context, fromNS, toNS int64, rest []PairSums, times bool, each func(sums []PairSums, where func(i int) (at []Stretch, known bool))) error
	// SumOutside tells of the same what concerns workloads without a name and tunnel endpoints, in the same way: by segment and fabric. Of rest the ends count.
	SumOutside(ctx context.Context, fromNS, toNS int64, rest []PairSums, each func([]Outside)) error
	// PairRows is a table expression for those rows of View.Rollup of a range that SumPairs said to be in some places, and all that it does not read, with
	// what questions about pairs need (what else a row says may be zero). It is good until the view is closed. segments is a condition in SQL that the pairs fulfil, as in Part.
	PairRows(ctx context.Context, fromNS, toNS int64, of []Stretch, segments string) (string, error)
}

// Stretch are rows of a stored roll-up beside each other; only the view that told it knows which.
type Stretch struct{ File, Group, First, Rows int32 }

// Outside is what a segment has to do with workloads that inventory does not know.
type Outside struct {
	Segment uint64
	Fabric  string
	Pairs   uint64     // of which an end has no name
	Addrs   uint64     // of these ends, but for the zero address
	VTEPs   [][16]byte // tunnel endpoints of all rows, in no order, each once
}

// FewView is a View that can read few rows by itself, sooner than an engine has planned to.
type FewView interface {
	// FewRows gives the rows that end in a range and are of segments with one of the numbers, nil for all. Segment and names that a row lacks are filled from others of
	// its flow that end in the range. They tell what questions about pairs read. There are at most so many, those without a segment among them; else the
	// error is ErrNotSummed. They can be gone through again; a record is valid until the next one.
	FewRows(ctx context.Context, fromNS, toNS int64, numbers []uint64, most int) (iter.Seq[*flow.Record], error)
}
