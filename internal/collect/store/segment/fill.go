package segment

import "crosstap/internal/collect/store/elect"

// knowledge is what one observer of a flow may know and another not.
type knowledge struct {
	segment                 uint64
	fabric, tenant, app     string
	srcTenant, dstTenant    string
	srcVM, srcVMID, srcHost string
	dstVM, dstVMID, dstHost string
}

func knowledgeOf(r *row) knowledge {
	return knowledge{r.Segment, r.Fabric, r.Tenant, r.App, r.SrcTenant, r.DstTenant, r.SrcVM, r.SrcVMID, r.SrcHost, r.DstVM, r.DstVMID, r.DstHost}
}

// is reports whether it is the same, of which most texts lie at one place.
func (k *knowledge) is(o *knowledge) bool {
	return k.segment == o.segment && sameText(k.fabric, o.fabric) && sameText(k.tenant, o.tenant) && sameText(k.app, o.app) && sameText(k.srcTenant, o.srcTenant) && sameText(k.dstTenant, o.dstTenant) &&
		sameText(k.srcVM, o.srcVM) && sameText(k.srcVMID, o.srcVMID) && sameText(k.srcHost, o.srcHost) && sameText(k.dstVM, o.dstVM) && sameText(k.dstVMID, o.dstVMID) && sameText(k.dstHost, o.dstHost)
}

// learn sets what the row lacks and is known of its flow.
func (w *row) learn(known *knowledge) {
	k := knowledgeOf(w)
	k.fill(known)
	w.Segment, w.Fabric, w.Tenant, w.App, w.SrcTenant, w.DstTenant = k.segment, k.fabric, k.tenant, k.app, k.srcTenant, k.dstTenant
	w.SrcVM, w.SrcVMID, w.SrcHost, w.DstVM, w.DstVMID, w.DstHost = k.srcVM, k.srcVMID, k.srcHost, k.dstVM, k.dstVMID, k.dstHost
}

// fields gives the fields that are filled one by one. The id of a VM goes with its name.
func (k *knowledge) fields() [9]*string {
	return [...]*string{&k.fabric, &k.tenant, &k.app, &k.srcVM, &k.srcHost, &k.dstVM, &k.dstHost, &k.srcTenant, &k.dstTenant}
}

// Places in fields, and after them.
const (
	srcVMField   = 3
	dstVMField   = 5
	segmentField = 9
)

// fill sets what k lacks and from has.
func (k *knowledge) fill(from *knowledge) {
	if k.srcVM == "" && k.srcVMID == "" {
		k.srcVMID = from.srcVMID
	}
	if k.dstVM == "" && k.dstVMID == "" {
		k.dstVMID = from.dstVMID
	}
	if k.segment == 0 {
		k.segment = from.segment
	}
	have := from.fields()
	for i, f := range k.fields() {
		if *f == "" {
			*f = *have[i]
		}
	}
}

// fills finds the flows of which a row lacks what another one has.
type fills struct {
	number map[knowledge]uint32
	all    []knowledge
	last   uint32
	flows  map[uint64]*knowledge // what is known of a flow, for those only
	same   map[knowledge]*knowledge
	texts  sharedTexts // of the files that it reads
}

func newFills() *fills {
	return &fills{number: map[knowledge]uint32{}, flows: map[uint64]*knowledge{}, same: map[knowledge]*knowledge{}, texts: sharedTexts{}}
}

// add numbers what a row knows; rows beside each other mostly know the same.
func (f *fills) add(k *knowledge) uint32 {
	if len(f.all) > 0 && f.all[f.last].is(k) {
		return f.last
	}
	n, ok := f.number[*k]
	if !ok {
		n = uint32(len(f.all))
		f.number[*k], f.all = n, append(f.all, *k)
	}
	f.last = n
	return n
}

// see takes the rows of a flow.
func (f *fills) see(rows []candidate) {
	for i := range rows {
		if rows[i].Known != rows[0].Known {
			f.flow(rows)
			return
		}
	}
}

// flow decides about the rows of one flow: of each field the latest row's that has it (elect.Rank).
func (f *fills) flow(rows []candidate) {
	var best knowledge
	var from [segmentField + 1]*candidate // whose the fields of best are
	later := func(i int, c *candidate) bool {
		if b := from[i]; b != nil && !rankOf(c).After(rankOf(b)) {
			return false
		}
		from[i] = c
		return true
	}
	for i := range rows {
		c := &rows[i]
		if c.File < 0 {
			continue
		}
		k := &f.all[c.Known]
		if k.segment != 0 && later(segmentField, c) {
			best.segment = k.segment
		}
		into := best.fields()
		for n, field := range k.fields() {
			if *field == "" || !later(n, c) {
				continue
			}
			*into[n] = *field
			switch n {
			case srcVMField:
				best.srcVMID = k.srcVMID
			case dstVMField:
				best.dstVMID = k.dstVMID
			}
		}
	}
	for i := range rows {
		if rows[i].File < 0 {
			continue
		}
		if k := f.all[rows[i].Known]; f.lacks(k, &best) {
			if f.same[best] == nil {
				f.same[best] = &best
			}
			f.flows[rows[i].FlowID] = f.same[best]
			return
		}
	}
}

func rankOf(c *candidate) elect.Rank {
	return elect.RankOf(c.TEnd, c.ObserverID, c.FlowID, c.Packets, c.Direction)
}

// lacks reports whether filling k from best changes it.
func (f *fills) lacks(k knowledge, best *knowledge) bool {
	was := k
	k.fill(best)
	return k != was
}
