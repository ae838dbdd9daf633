package segment

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// Links are what a merged roll-up adds up to for the whole of its time when the addresses of workloads that inventory does not know are left out: many
// times fewer rows, for questions that ask for neither hours nor such addresses. Which end is the client is settled, since it may
// depend on the addresses: the column client is 1 or 2. Of a day there are links of its quarters too: most ranges begin and end within a day.

// linksAtOnce bounds the links of a segment in memory; of more, some stand in two rows.
const linksAtOnce = 100_000

// linkBuilder adds the rows of a roll-up up, segment by segment.
type linkBuilder struct {
	spanMS int64 // what links add up
	emit   func(*rollup) error
	at     map[linkKey]int
	sums   []rollup
	l2     []uint64 // of sums
	last   int
}

// linkKey are the columns that a link stands for.
type linkKey struct {
	bucket               int64
	src, dst             [16]byte
	fabric, tenant, app  string
	srcTenant, dstTenant string
	srcVM, srcVMID       string
	srcHost, dstHost     string
	dstVM, dstVMID       string
	servicePort          uint16
	proto, client        uint8
}

// turned reports whether a row goes from the server to the client: as the client says, else as most ports do, else by the ends.
func (r *rollup) turned() bool {
	switch {
	case r.Client != 0:
		return r.Client == 2
	case r.PortVotes != 0:
		return r.PortVotes < 0
	}
	if c := bytes.Compare(r.Src[:], r.Dst[:]); c != 0 {
		return c > 0
	}
	return who(r.SrcVM, r.SrcVMID) > who(r.DstVM, r.DstVMID)
}

func (r *rollup) l2Octets() uint64 {
	if r.L2Header == l2Other {
		return r.L2Other
	}
	return r.Octets + uint64(r.L2Header)*r.Packets
}

// linkOf is the link of that time that a row belongs to.
func linkOf(r *rollup, spanMS int64) linkKey {
	k := linkKey{
		bucket: bucketOf(r.Bucket, spanMS), fabric: r.Fabric, tenant: r.Tenant, app: r.App, srcTenant: r.SrcTenant, dstTenant: r.DstTenant, srcVM: r.SrcVM, srcVMID: r.SrcVMID, srcHost: r.SrcHost, dstHost: r.DstHost,
		dstVM: r.DstVM, dstVMID: r.DstVMID, servicePort: r.ServicePort, proto: r.Proto, client: 1,
	}
	if r.turned() {
		k.client = 2
	}
	if r.SrcVM != "" || r.SrcVMID != "" {
		k.src = r.Src
	}
	if r.DstVM != "" || r.DstVMID != "" {
		k.dst = r.Dst
	}
	return k
}

// add takes the next row; those of a segment come together.
func (b *linkBuilder) add(r *rollup) error {
	if r.Rows == 0 { // what other observers told of a pair
		return nil
	}
	if len(b.sums) > 0 && (b.sums[0].Segment != r.Segment || len(b.sums) >= linksAtOnce) {
		if err := b.finish(); err != nil {
			return err
		}
	}
	k := linkOf(r, b.spanMS)
	if b.last >= len(b.sums) || linkOfSum(&b.sums[b.last]) != k {
		i, there := b.at[k]
		if !there {
			i = len(b.sums)
			b.sums, b.l2, b.at[k] = append(b.sums, b.begin(r, &k)), append(b.l2, 0), i
		}
		b.last = i
	}
	b.sums[b.last].take(r)
	b.l2[b.last] += r.l2Octets()
	return nil
}

// linkOfSum is the link of a sum: it has been told already.
func linkOfSum(s *rollup) linkKey {
	return linkKey{
		bucket: s.Bucket, src: s.Src, dst: s.Dst, fabric: s.Fabric, tenant: s.Tenant, app: s.App, srcTenant: s.SrcTenant, dstTenant: s.DstTenant, srcVM: s.SrcVM, srcVMID: s.SrcVMID, srcHost: s.SrcHost, dstHost: s.DstHost,
		dstVM: s.DstVM, dstVMID: s.DstVMID, servicePort: s.ServicePort, proto: s.Proto, client: s.Client,
	}
}

func (b *linkBuilder) begin(r *rollup, k *linkKey) rollup {
	return rollup{
		Segment: r.Segment, Src: k.src, Dst: k.dst, Bucket: k.bucket, Fabric: k.fabric, Tenant: k.tenant, SrcTenant: k.srcTenant, DstTenant: k.dstTenant, SrcVM: k.srcVM, SrcVMID: k.srcVMID, SrcHost: k.srcHost,
		DstVM: k.dstVM, DstVMID: k.dstVMID, DstHost: k.dstHost, App: k.app, Proto: k.proto, ServicePort: k.servicePort, Client: k.client, FirstSeen: r.FirstSeen, LastSeen: r.LastSeen,
	}
}

// take adds the figures of a row.
func (r *rollup) take(o *rollup) {
	r.Packets += o.Packets
	r.Octets += o.Octets
	r.Rows += o.Rows
	r.Flows += o.Flows
	r.FirstSeen, r.LastSeen = min(r.FirstSeen, o.FirstSeen), max(r.LastSeen, o.LastSeen)
	r.Marks |= o.Marks
	r.TCPFlags |= o.TCPFlags
	r.Variance += o.Variance
	r.SampledRows += o.SampledRows
	r.AmbiguousRows += o.AmbiguousRows
	if o.MinLen > 0 && (r.MinLen == 0 || o.MinLen < r.MinLen) {
		r.MinLen = o.MinLen
	}
	r.MaxLen = max(r.MaxLen, o.MaxLen)
	r.Fragments += o.Fragments
	r.Retransmits += o.Retransmits
	r.ZeroWindows += o.ZeroWindows
	r.RTTN += o.RTTN
	r.RTTSum += o.RTTSum
	r.RTTMax = max(r.RTTMax, o.RTTMax)
}

// finish gives the links of the segment out, in order.
func (b *linkBuilder) finish() error {
	for i := range b.sums {
		s := &b.sums[i]
		s.L2Header, s.L2Other = splitL2(b.l2[i], s.Octets, s.Packets)
	}
	slices.SortFunc(b.sums, compareLinks)
	for i := range b.sums {
		if err := b.emit(&b.sums[i]); err != nil {
			return err
		}
	}
	clear(b.sums)
	b.sums, b.l2, b.last = b.sums[:0], b.l2[:0], 0
	b.at = map[linkKey]int{}
	return nil
}

// compareLinks is an order of links of one segment, by the ends first.
func compareLinks(x, y rollup) int {
	return cmp.Or(bytes.Compare(x.Src[:], y.Src[:]), bytes.Compare(x.Dst[:], y.Dst[:]), cmp.Compare(x.SrcVM, y.SrcVM), cmp.Compare(x.SrcVMID, y.SrcVMID), cmp.Compare(x.DstVM, y.DstVM), cmp.Compare(x.DstVMID, y.DstVMID),
		cmp.Compare(x.Bucket, y.Bucket), cmp.Compare(x.Proto, y.Proto), cmp.Compare(x.ServicePort, y.ServicePort), cmp.Compare(x.Client, y.Client), cmp.Compare(x.App, y.App))
}

// quarterMS is the time of the shorter links of a day.
const quarterMS = 6 * hourMS

// linkKinds are the links that a merged roll-up has: name and time, those first that others can be made from.
func (f *file) linkKinds() (kinds []linkKind) {
	if f.Span > quarterMS {
		kinds = append(kinds, linkKind{quartersOf(f.Name), quarterMS})
	}
	return append(kinds, linkKind{linksOf(f.Name), f.Span})
}

type linkKind struct {
	name   string
	spanMS int64
}

// createLinks writes those links of a merged roll-up that lack. With an error it returns what is finished.
func (s *Store) createLinks(merged file) (out []file, err error) {
	from := merged
	for _, k := range merged.linkKinds() {
		s.mu.Lock()
		links, there := s.man.rolls[k.name]
		s.mu.Unlock()
		if !there {
			if links, err = s.linksFrom(from, merged, k); err != nil {
				if errors.Is(err, errStopped) || isDiskFull(err) {
					return out, err
				}
				return out, &damagedError{from, err}
			}
			out = append(out, links)
		}
		from = links
	}
	return out, nil
}

// linksFrom adds the rows of a roll-up, or its links of a shorter time, up.
func (s *Store) linksFrom(from, merged file, k linkKind) (file, error) {
	in, err := os.Open(s.path(from.Name))
	if err != nil {
		return file{}, err
	}
	defer in.Close()
	var out *rollupWriter
	name, size, err := s.create(func(to io.Writer) error {
		out = newRollupWriter(to, rowGroupRows)
		out.foot.Span = merged.Span
		b := &linkBuilder{spanMS: k.spanMS, emit: out.add, at: map[linkKey]int{}}
		n := 0
		err := eachRollup(in, func(r *rollup) error {
			if n++; n%4096 == 0 && s.stopped() {
				return errStopped
			}
			return b.add(r)
		})
		if err == nil {
			err = b.finish()
		}
		if err != nil {
			return fmt.Errorf("links of %s: %w", from.Name, err)
		}
		out.foot.MinMS, out.foot.MaxMS, out.foot.StartMS = merged.MinMS, merged.MaxMS, merged.StartMS
		return out.finish()
	}, func(string) string { return k.name })
	if err != nil {
		return file{}, err
	}
	return out.describe(name, size), nil
}
