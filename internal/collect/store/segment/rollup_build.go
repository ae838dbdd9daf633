package segment

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unsafe"

	"crosstap/internal/collect/store/elect"
	"crosstap/internal/flow"
)

// rollupBuilder adds rows up. They come in the order of a file, so that those of two addresses are a run; what it holds in memory is the
// run, and what belongs to later runs because its segment became known from another observer.
type rollupBuilder struct {
	stepMS  int64
	flows   map[uint64]*knowledge // of which a row lacks something
	emit    func(*rollup) error
	run     *run
	waiting map[ends]*run
	next    []ends // of those that wait, in order; nil when not sorted yet
	free    *run   // to be used again
	filled  row    // with what is known of its flow
	spare   []*tally
}

// ends are what a run has in common.
type ends struct {
	segment  uint64
	src, dst [16]byte
}

// run are the sums between two addresses.
type run struct {
	ends   ends
	sums   []*tally
	last   *tally
	find   map[uint64][]*tally // once there are many
	others []*others
	vteps  []vteps
}

// tally is a row that is being added up.
type tally struct {
	rollup
	l2    uint64
	ports []uint32 // of both ends, to count the different ones
	seen  []observer
}

// observer is a row's observer; one with a name goes by that.
type observer struct {
	name     string
	exporter [16]byte
	domain   uint32
}

// others are the rows of a pair of workloads that are not canonical.
type others struct {
	bucket                 int64
	fabric, srcWho, dstWho string
	rows, packets          uint64
	seen                   []observer
}

// vteps are the tunnel endpoints seen between two hosts.
type vteps struct {
	bucket                   int64
	fabric, srcHost, dstHost string
	src, dst                 [16]byte
	srcAt, dstAt             elect.Rank
}

func newRollupBuilder(stepMS int64, flows map[uint64]*knowledge, emit func(*rollup) error) *rollupBuilder {
	return &rollupBuilder{stepMS: stepMS, flows: flows, emit: emit, waiting: map[ends]*run{}}
}

// add takes the next row; it does not keep it.
func (b *rollupBuilder) add(r *row) error {
	at := ends{r.Segment, r.Src, r.Dst}
	if b.run == nil || b.run.ends != at {
		if err := b.finishRun(); err != nil {
			return err
		}
		if at.segment != 0 { // rows without a segment come first, and no others wait
			if err := b.finishWaiting(&at); err != nil {
				return err
			}
		}
		b.run = b.take(at)
		delete(b.waiting, at)
	}
	into := b.run
	if len(b.flows) > 0 {
		if known := b.flows[r.flowID()]; known != nil {
			b.filled = *r
			r = &b.filled
			if r.learn(known); r.Segment != at.segment {
				at.segment = r.Segment
				into = b.take(at)
				b.waiting[at], b.next = into, nil
			}
		}
	}
	bucket := bucketOf(r.TEnd, b.stepMS)
	into.seeVTEPs(r, bucket)
	if r.Marks&uint16(flow.MarkCanonical) == 0 {
		into.addOther(r, bucket)
		return nil
	}
	b.sumOf(into, r, bucket).add(r)
	return nil
}

func (b *rollupBuilder) take(at ends) *run {
	if r := b.waiting[at]; r != nil {
		return r
	}
	if r := b.free; r != nil {
		b.free, r.ends = nil, at
		return r
	}
	return &run{ends: at}
}

// reset forgets all but the memory.
func (b *run) reset() {
	clear(b.vteps)
	b.sums, b.last, b.find, b.others, b.vteps = b.sums[:0], nil, nil, b.others[:0], b.vteps[:0]
}

// finish gives out what is left.
func (b *rollupBuilder) finish() error {
	if err := b.finishRun(); err != nil {
		return err
	}
	return b.finishWaiting(nil)
}

// finishWaiting gives out runs that had no row of their own, as far as they are before others.
func (b *rollupBuilder) finishWaiting(before *ends) error {
	if len(b.waiting) == 0 {
		return nil
	}
	if b.next == nil {
		b.next = slices.SortedFunc(maps.Keys(b.waiting), compareEnds)
	}
	for len(b.next) > 0 && (before == nil || compareEnds(b.next[0], *before) < 0) {
		b.run = b.waiting[b.next[0]]
		delete(b.waiting, b.next[0])
		b.next = b.next[1:]
		if err := b.finishRun(); err != nil { // nothing where it had a row after all
			return err
		}
	}
	return nil
}

func bucketOf(ms, step int64) int64 {
	b := ms - ms%step
	if ms%step < 0 {
		b -= step
	}
	return b
}

// manySums is how many sums of a run are searched one by one.
const manySums = 16

// sumOf finds or makes the sum that a row belongs to.
func (b *rollupBuilder) sumOf(into *run, r *row, bucket int64) *tally {
	port := r.servicePort()
	if s := into.last; s != nil && s.is(r, bucket, port) {
		return s
	}
	among, short := into.sums, uint64(0)
	if len(among) > manySums {
		short = uint64(port) | uint64(r.Proto)<<16 | uint64(r.Client)<<24 | uint64(bucket/b.stepMS)<<32
		if into.find == nil {
			into.find = map[uint64][]*tally{}
			for _, s := range into.sums {
				n := uint64(s.ServicePort) | uint64(s.Proto)<<16 | uint64(s.Client)<<24 | uint64(s.Bucket/b.stepMS)<<32
				into.find[n] = append(into.find[n], s)
			}
		}
		among = into.find[short]
	}
	for _, s := range among {
		if s.is(r, bucket, port) {
			into.last = s
			return s
		}
	}
	s := b.newTally()
	s.rollup = rollup{
		Segment: into.ends.segment, Src: r.Src, Dst: r.Dst, Bucket: bucket, Fabric: r.Fabric, Tenant: r.Tenant, SrcTenant: r.SrcTenant, DstTenant: r.DstTenant, SrcVM: r.SrcVM, SrcVMID: r.SrcVMID, SrcHost: r.SrcHost,
		DstVM: r.DstVM, DstVMID: r.DstVMID, DstHost: r.DstHost, App: r.App, Proto: r.Proto, ServicePort: port, Client: r.Client, FirstSeen: r.tStart(), LastSeen: r.TEnd,
	}
	into.sums, into.last = append(into.sums, s), s
	if into.find != nil {
		into.find[short] = append(into.find[short], s)
	}
	return s
}

func (b *rollupBuilder) newTally() *tally {
	if n := len(b.spare); n > 0 {
		s := b.spare[n-1]
		b.spare = b.spare[:n-1]
		return s
	}
	return new(tally)
}

// servicePort is the port of the server, the lesser one when the client is not known.
func (w *row) servicePort() uint16 {
	switch flow.Client(w.Client) {
	case flow.ClientSrc:
		return w.DstPort
	case flow.ClientDst:
		return w.SrcPort
	}
	return min(w.SrcPort, w.DstPort)
}

func (s *tally) is(r *row, bucket int64, port uint16) bool {
	return s.Bucket == bucket && s.ServicePort == port && s.Proto == r.Proto && s.Client == r.Client &&
		sameText(s.Fabric, r.Fabric) && sameText(s.Tenant, r.Tenant) && sameText(s.SrcTenant, r.SrcTenant) && sameText(s.DstTenant, r.DstTenant) && sameText(s.App, r.App) &&
		sameText(s.SrcVM, r.SrcVM) && sameText(s.SrcVMID, r.SrcVMID) && sameText(s.SrcHost, r.SrcHost) && sameText(s.DstVM, r.DstVM) && sameText(s.DstVMID, r.DstVMID) && sameText(s.DstHost, r.DstHost)
}

// sameText compares strings that mostly lie at one place, or are empty.
func sameText(a, b string) bool {
	return len(a) == len(b) && (unsafe.StringData(a) == unsafe.StringData(b) || a == b)
}

// add adds a canonical row.
func (s *tally) add(r *row) {
	s.Packets += r.Packets
	s.Octets += r.Octets
	s.l2 += r.l2Octets()
	s.Rows++
	s.ports = append(s.ports, uint32(r.SrcPort)<<16|uint32(r.DstPort))
	if len(s.ports) >= 4096 && len(s.ports) == cap(s.ports) {
		slices.Sort(s.ports)
		s.ports = slices.Compact(s.ports)
	}
	s.FirstSeen, s.LastSeen = min(s.FirstSeen, r.tStart()), max(s.LastSeen, r.TEnd)
	s.Marks |= r.Marks
	s.TCPFlags |= r.TCPFlags
	s.PortVotes += int64(cmp.Compare(r.SrcPort, r.DstPort))
	if r.Sampling > 1 {
		s.Variance += float64(r.Octets) * float64(r.Octets) * float64(r.Sampling-1) / float64(max(r.Packets, 1))
	}
	if r.Marks&uint16(flow.MarkSampled) != 0 {
		s.SampledRows++
	}
	if r.Marks&uint16(flow.MarkAmbiguous) != 0 {
		s.AmbiguousRows++
	}
	if r.MinLen > 0 && (s.MinLen == 0 || r.MinLen < s.MinLen) {
		s.MinLen = r.MinLen
	}
	s.MaxLen = max(s.MaxLen, r.MaxLen)
	s.Fragments += uint64(r.Fragments)
	s.Retransmits += uint64(r.Retransmits)
	s.ZeroWindows += uint64(r.ZeroWindows)
	if r.RTTUS > 0 {
		s.RTTN++
		s.RTTSum += uint64(r.RTTUS)
		s.RTTMax = max(s.RTTMax, r.RTTUS)
	}
	s.seen = addObserver(s.seen, r)
}

func addObserver(seen []observer, r *row) []observer {
	o := observer{name: r.Observer}
	if o.name == "" {
		o.exporter, o.domain = r.Exporter, r.Domain
	}
	if slices.Contains(seen, o) {
		return seen
	}
	return append(seen, o)
}

// observersText gives the names in order, with line feeds between.
func observersText(seen []observer) string {
	if len(seen) == 1 && seen[0].name != "" {
		return seen[0].name
	}
	names := make([]string, len(seen))
	for i, o := range seen {
		if names[i] = o.name; o.name == "" {
			e := o.exporter
			names[i] = fmt.Sprintf("\x1f%x-%x-%x-%x-%x/%d", e[:4], e[4:6], e[6:8], e[8:10], e[10:], o.domain)
		}
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), "\n")
}

func who(name, id string) string {
	if id != "" {
		return id
	}
	return name
}

func (b *run) addOther(r *row, bucket int64) {
	src, dst := who(r.SrcVM, r.SrcVMID), who(r.DstVM, r.DstVMID)
	i := slices.IndexFunc(b.others, func(o *others) bool {
		return o.bucket == bucket && o.fabric == r.Fabric && o.srcWho == src && o.dstWho == dst
	})
	if i < 0 {
		i = len(b.others)
		b.others = append(b.others, &others{bucket: bucket, fabric: r.Fabric, srcWho: src, dstWho: dst})
	}
	o := b.others[i]
	o.rows++
	o.packets += r.Packets
	o.seen = addObserver(o.seen, r)
}

func (b *run) seeVTEPs(r *row, bucket int64) {
	if r.OuterSrc == [16]byte{} && r.OuterDst == [16]byte{} {
		return
	}
	v := b.vtepsOf(bucket, r.Fabric, r.SrcHost, r.DstHost)
	if v == nil {
		b.vteps = append(b.vteps, vteps{bucket: bucket, fabric: r.Fabric, srcHost: r.SrcHost, dstHost: r.DstHost})
		v = &b.vteps[len(b.vteps)-1]
	}
	at := elect.RankOf(r.TEnd, r.ObserverID, r.flowID(), r.Packets, r.Direction)
	if r.OuterSrc != [16]byte{} && (v.src == [16]byte{} || at.After(v.srcAt)) {
		v.src, v.srcAt = r.OuterSrc, at
	}
	if r.OuterDst != [16]byte{} && (v.dst == [16]byte{} || at.After(v.dstAt)) {
		v.dst, v.dstAt = r.OuterDst, at
	}
}

func (b *run) vtepsOf(bucket int64, fabric, srcHost, dstHost string) *vteps {
	for i := range b.vteps {
		if v := &b.vteps[i]; v.bucket == bucket && v.fabric == fabric && v.srcHost == srcHost && v.dstHost == dstHost {
			return v
		}
	}
	return nil
}

// compareSums is the order of rollupKey for sums between the same addresses.
func compareSums(a, b *tally) int {
	return cmp.Or(cmp.Compare(a.Bucket, b.Bucket), cmp.Compare(a.Fabric, b.Fabric), cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.SrcTenant, b.SrcTenant), cmp.Compare(a.DstTenant, b.DstTenant),
		cmp.Compare(a.SrcVM, b.SrcVM), cmp.Compare(a.SrcVMID, b.SrcVMID), cmp.Compare(a.SrcHost, b.SrcHost),
		cmp.Compare(a.DstVM, b.DstVM), cmp.Compare(a.DstVMID, b.DstVMID), cmp.Compare(a.DstHost, b.DstHost),
		cmp.Compare(a.App, b.App), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.ServicePort, b.ServicePort), cmp.Compare(a.Client, b.Client))
}

// finishRun gives the rows of the run out.
func (b *rollupBuilder) finishRun() error {
	r := b.run
	if r == nil {
		return nil
	}
	b.run = nil
	slices.SortFunc(r.sums, compareSums)
	for _, s := range r.sums {
		if len(s.ports) > 1 {
			slices.Sort(s.ports)
			s.ports = slices.Compact(s.ports)
		}
		s.Flows, s.SeenBy = uint32(len(s.ports)), observersText(s.seen)
		if v := r.vtepsOf(s.Bucket, s.Fabric, s.SrcHost, s.DstHost); v != nil {
			s.OuterSrc, s.OuterDst = v.src, v.dst
		}
		s.L2Header, s.L2Other = splitL2(s.l2, s.Octets, s.Packets)
		r.takeOthers(s)
		if err := b.emit(&s.rollup); err != nil {
			return err
		}
		s.l2, s.ports, s.seen = 0, s.ports[:0], s.seen[:0]
		b.spare = append(b.spare, s)
	}
	slices.SortFunc(r.others, func(a, c *others) int {
		return cmp.Or(cmp.Compare(a.bucket, c.bucket), cmp.Compare(a.fabric, c.fabric), cmp.Compare(a.srcWho, c.srcWho), cmp.Compare(a.dstWho, c.dstWho))
	})
	for _, o := range r.others { // pairs without canonical rows
		s := rollup{Segment: r.ends.segment, Src: r.ends.src, Dst: r.ends.dst, Bucket: o.bucket, Fabric: o.fabric, SrcVMID: o.srcWho, DstVMID: o.dstWho,
			FirstSeen: o.bucket, LastSeen: o.bucket, OtherRows: o.rows, Duplicates: o.packets, SeenOther: observersText(o.seen)}
		if err := b.emit(&s); err != nil {
			return err
		}
	}
	r.reset()
	b.free = r
	return nil
}

// takeOthers gives the first sum of a pair of workloads what is told of the pair.
func (b *run) takeOthers(s *tally) {
	src, dst := who(s.SrcVM, s.SrcVMID), who(s.DstVM, s.DstVMID)
	for i, o := range b.others {
		if o.bucket == s.Bucket && o.fabric == s.Fabric && o.srcWho == src && o.dstWho == dst {
			s.OtherRows, s.Duplicates, s.SeenOther = o.rows, o.packets, observersText(o.seen)
			b.others = slices.Delete(b.others, i, i+1)
			return
		}
	}
}

// compareEnds is the order of runs.
func compareEnds(a, b ends) int {
	return cmp.Or(cmp.Compare(a.segment, b.segment), bytes.Compare(a.src[:], b.src[:]), bytes.Compare(a.dst[:], b.dst[:]))
}
