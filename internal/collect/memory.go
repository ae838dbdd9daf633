package collect

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"sync"

	"crosstap/internal/collect/enrich"
	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
	"crosstap/internal/ledger"
)

// Memory is a store that keeps records in memory, for an import that is only looked at. Its zero value is ready. It has no
// bound of its own: what is imported is.
type Memory struct {
	mu   sync.Mutex
	recs []flow.Record
	gaps []store.Gap
}

// Append implements store.Store.
func (m *Memory) Append(_ context.Context, recs []flow.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recs = append(m.recs, recs...)
	return nil
}

// NoteGap implements store.Store.
func (m *Memory) NoteGap(g store.Gap) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gaps = append(m.gaps, g)
	return nil
}

// AppendCounts implements store.Store: nobody asks for them.
func (m *Memory) AppendCounts(context.Context, store.Counts) error { return nil }

// Flush implements store.Store.
func (m *Memory) Flush(context.Context) error { return nil }

// Close implements store.Store.
func (m *Memory) Close() error { return nil }

// Stats implements store.Store.
func (m *Memory) Stats() store.Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := uint64(len(m.recs))
	return store.Stats{Rows: n, Book: ledger.Statement{Stage: "store", Unit: ledger.Records, In: n, Out: n}}
}

// Gaps returns what was noted.
func (m *Memory) Gaps() []store.Gap {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.gaps)
}

// Conversation is both directions of one logical flow.
type Conversation struct {
	Segment        flow.Segment
	Fabric         string
	Tenant         string
	Client, Server End // as far as it is known who opened it; else the lower address stands first
	Known, Guess   bool
	Proto          uint8
	App            string
	StartNS, EndNS int64
	Forward, Back  Way // from the client, to the client
}

// End is one end of a conversation.
type End struct {
	Addr flow.Addr
	Port uint16
	VM   string
	MAC  flow.MAC

	opened bool
}

// Way is one direction. Its sums are those of canonical rows: each packet counts once. Observers stand in the order in which
// packets pass them.
type Way struct {
	Packets, Octets uint64
	Marks           flow.Mark // of any row
	Observers       []Seen
}

// Seen is what one observer saw of a direction. Differences between observers are kept: they say where packets were lost.
type Seen struct {
	Name, Host      string
	Exporter        flow.Addr
	Domain          uint32
	Role            flow.Role
	Direction       uint8
	VTEPSrc         flow.Addr
	VTEPDst         flow.Addr
	Rows            int
	Packets, Octets uint64
	Canonical       uint64 // of Packets, those that the sums count
	Marks           flow.Mark

	hop     int
	startNS int64
}

// Conversations joins the records into conversations, those with most octets first. It elects canonical rows anew: with all
// records at hand the best observer of each stretch of a flow is certain.
func (m *Memory) Conversations() []Conversation {
	m.mu.Lock()
	defer m.mu.Unlock()
	enrich.Rejoin(m.recs)
	enrich.Elect(m.recs)
	flows := make(map[uint64][]*flow.Record)
	var order []uint64
	for i := range m.recs {
		r := &m.recs[i]
		if flows[r.FlowID] == nil {
			order = append(order, r.FlowID)
		}
		flows[r.FlowID] = append(flows[r.FlowID], r)
	}
	byKey := make(map[convKey]*Conversation)
	var out []*Conversation
	for _, id := range order {
		recs := flows[id]
		k, low := convKeyOf(recs)
		c := byKey[k]
		if c == nil {
			c = &Conversation{}
			byKey[k] = c
			out = append(out, c)
		}
		c.add(recs, low)
	}
	all := make([]Conversation, len(out))
	for i, c := range out {
		c.orient()
		all[i] = *c
	}
	slices.SortStableFunc(all, func(a, b Conversation) int {
		return cmp.Compare(b.Forward.Octets+b.Back.Octets, a.Forward.Octets+a.Back.Octets)
	})
	return all
}

// convKey is what both directions of a conversation share.
type convKey struct {
	lowAddr, highAddr flow.Addr
	lowPort, highPort uint16
	proto             uint8
	etherType         uint16
	segment           flow.Segment
	fabric            string
	lowMAC, highMAC   flow.MAC // where there is no segment
}

// convKeyOf returns the key of one direction; low tells that its source is the lower end.
func convKeyOf(recs []*flow.Record) (k convKey, low bool) {
	r := recs[0]
	for _, x := range recs { // the first rows of a flow may know less than later ones
		if r.Segment == 0 && x.Segment != 0 || r.SrcMAC == 0 && x.SrcMAC != 0 && r.Segment == x.Segment {
			r = x
		}
	}
	k = convKey{lowAddr: r.Src, highAddr: r.Dst, proto: r.Proto, segment: r.Segment, fabric: r.Fabric}
	if r.Proto != 1 && r.Proto != 58 {
		k.lowPort, k.highPort = r.SrcPort, r.DstPort
	}
	if r.Segment == 0 && !r.DstMAC.Group() {
		k.lowMAC, k.highMAC = r.SrcMAC, r.DstMAC
	}
	if r.Src.IsZero() && r.Dst.IsZero() {
		k.etherType, k.lowMAC, k.highMAC = r.EtherType, r.SrcMAC, r.DstMAC
	}
	order := cmp.Or(bytes.Compare(r.Src[:], r.Dst[:]), cmp.Compare(k.lowPort, k.highPort), cmp.Compare(k.lowMAC, k.highMAC))
	if order > 0 {
		k.lowAddr, k.highAddr, k.lowPort, k.highPort, k.lowMAC, k.highMAC = k.highAddr, k.lowAddr, k.highPort, k.lowPort, k.highMAC, k.lowMAC
	}
	return k, order <= 0
}

// add takes in one direction. Until orient the lower end stands for the client.
func (c *Conversation) add(recs []*flow.Record, low bool) {
	w, from, to := &c.Forward, &c.Client, &c.Server
	if !low {
		w, from, to = &c.Back, &c.Server, &c.Client
	}
	for _, r := range recs {
		c.Proto, c.Fabric = r.Proto, cmp.Or(c.Fabric, r.Fabric)
		c.Segment = cmp.Or(c.Segment, r.Segment)
		c.Tenant, c.App = cmp.Or(c.Tenant, r.Tenant), cmp.Or(c.App, r.App)
		if c.StartNS == 0 || r.StartNS < c.StartNS {
			c.StartNS = r.StartNS
		}
		c.EndNS = max(c.EndNS, r.EndNS)
		from.learn(r.Src, r.SrcPort, r.SrcVM, r.SrcMAC)
		to.learn(r.Dst, r.DstPort, r.DstVM, r.DstMAC)
		c.client(r, low)
		w.add(r)
	}
}

func (e *End) learn(a flow.Addr, port uint16, vm string, m flow.MAC) {
	e.Addr, e.Port = a, port
	e.VM, e.MAC = cmp.Or(vm, e.VM), cmp.Or(m, e.MAC)
}

// client takes in what a row says of who opened the conversation: what a packet said beats a guess.
func (c *Conversation) client(r *flow.Record, low bool) {
	if r.Client == flow.ClientUnknown {
		return
	}
	guess := r.Is(flow.MarkGuess)
	if c.Known && (!c.Guess || guess) {
		return
	}
	c.Known, c.Guess = true, guess
	c.Client.opened = (r.Client == flow.ClientSrc) == low
	c.Server.opened = !c.Client.opened
}

// orient puts the client first and the observers in order.
func (c *Conversation) orient() {
	if c.Known && !c.Client.opened {
		c.Client, c.Server, c.Forward, c.Back = c.Server, c.Client, c.Back, c.Forward
	}
	for _, w := range [...]*Way{&c.Forward, &c.Back} {
		slices.SortStableFunc(w.Observers, func(a, b Seen) int {
			return cmp.Or(cmp.Compare(a.hop, b.hop), cmp.Compare(a.startNS, b.startNS))
		})
	}
}

func (w *Way) add(r *flow.Record) {
	w.Marks |= r.Marks &^ (flow.MarkCanonical | flow.MarkReverse)
	i := slices.IndexFunc(w.Observers, func(s Seen) bool {
		return s.Name == r.Observer && s.Exporter == r.Exporter && s.Domain == r.Domain && s.Role == r.Role && s.Direction == r.Direction
	})
	if i < 0 {
		i = len(w.Observers)
		w.Observers = append(w.Observers, Seen{
			Name: r.Observer, Host: r.ObserverHost, Exporter: r.Exporter, Domain: r.Domain, Role: r.Role, Direction: r.Direction,
			hop: enrich.Hop(r), startNS: r.StartNS,
		})
	}
	s := &w.Observers[i]
	s.Rows++
	s.Packets, s.Octets, s.Marks = s.Packets+r.Packets, s.Octets+r.Octets, s.Marks|r.Marks&^flow.MarkCanonical
	s.startNS = min(s.startNS, r.StartNS)
	if !r.Tunnel.Src.IsZero() {
		s.VTEPSrc, s.VTEPDst = r.Tunnel.Src, r.Tunnel.Dst
	}
	if r.Is(flow.MarkCanonical) {
		w.Packets, w.Octets = w.Packets+r.Packets, w.Octets+r.Octets
		s.Canonical += r.Packets
	}
}
