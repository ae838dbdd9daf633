package session

import (
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto"
)

// SamplingSource says how an exporter's sampling is known.
type SamplingSource uint8

// The sources, in the order in which they are believed.
const (
	SamplingNone      SamplingSource = iota // nobody tells: every packet is taken to be counted
	SamplingRecord                          // each record or datagram says it
	SamplingAnnounced                       // option records
	SamplingPlatform                        // the platform that configured it
	SamplingConfig                          // a rule
	SamplingAssumed                         // a rule's guess
	SamplingUnknown                         // an exporter of a kind that samples without telling: 1 is assumed, records are marked
	SamplingScaled                          // the exporter multiplies its counters itself
)

var samplingSources = [...]string{"none", "in-record", "announced", "platform", "config", "assumed", "unknown", "self-scaled"}

// String returns the source's name.
func (s SamplingSource) String() string { return samplingSources[s] }

// Sampling is what is known of an exporter's sampling.
type Sampling struct {
	Rate   uint32 // one packet in so many, of the last record
	Source SamplingSource
	Rates  int // different rates that were announced
}

// joiner fills in what an exporter's records do not say themselves. It belongs to an account and is used under its lock.
type joiner struct {
	rules  *ruleSet // of which rule was found
	rule   *Rule
	asked  int64 // when the platform was
	plat   Sampled
	isPlat bool
	silent bool // of a kind that samples without telling (VMware's distributed switch)

	// an exporter that multiplies its counters: their greatest common divisor, and whether a single packet was told as several
	gcd     uint64
	witness bool
}

// platformEvery is how often a platform is asked for one exporter.
const platformEvery = 10 * time.Second

// look finds the rule and the platform's word for an exporter.
func (j *joiner) look(t *Table, k exporterKey, recvNS int64) {
	if set := t.rules.Load(); set != j.rules {
		j.rules, j.rule = set, ruleOf(set.rules, k.addr, k.domain)
	}
	if d := recvNS - j.asked; j.asked == 0 || d > int64(platformEvery) || d < 0 {
		j.asked = recvNS
		j.plat, j.isPlat = (*t.platform.Load())(k.addr, k.domain)
	}
}

// join fills in records. d may be nil. It returns how the sampling of the last one is known.
func (j *joiner) join(k exporterKey, d *told, recs []flow.Record) (s Sampling) {
	named := j.rule != nil || d != nil && (len(d.Ifs)+len(d.VRFs)+len(d.Apps)+len(d.Points) > 0 || d.Name != "")
	for i := range recs {
		r := &recs[i]
		s = j.sample(k, d, r)
		if named {
			j.name(k, d, r)
		}
		if r.Role == flow.RoleUnknown && k.protocol == flowproto.IPFIX && r.Point != 0 && r.Observer != "" && r.Tunnel == (flow.Tunnel{}) {
			r.Role = flow.RolePort // Open vSwitch: a point and the name of its port
		}
	}
	if d != nil {
		s.Rates = len(d.Samplers) + len(d.ByIf)
		if d.Rate > 0 {
			s.Rates++
		}
	}
	return s
}

// sample decides the sampling of a record. A record that says it itself is believed, and so is one of an exporter that
// multiplies itself: nothing is multiplied twice.
func (j *joiner) sample(k exporterKey, d *told, r *flow.Record) Sampling {
	if r.Sampling > 0 || r.Is(flow.MarkSampled) {
		return Sampling{Rate: max(r.Sampling, 1), Source: SamplingRecord}
	}
	if d != nil {
		if n := d.of(r); n > 0 {
			return j.set(r, n, false, SamplingAnnounced)
		}
	}
	if k.protocol == flowproto.IPFIX && r.Point != 0 && j.multiplied(r) {
		r.Marks |= flow.MarkSampled
		return Sampling{Rate: uint32(min(j.gcd, 1<<32-1)), Source: SamplingScaled}
	}
	switch {
	case j.isPlat && j.plat.Rate > 0:
		return j.set(r, j.plat.Rate, j.plat.Scaled, SamplingPlatform)
	case j.rule != nil && j.rule.Sampling > 0:
		return j.set(r, j.rule.Sampling, j.rule.Scaled, SamplingConfig)
	case j.rule != nil && j.rule.Assume > 0:
		r.Marks |= flow.MarkAssumed
		return j.set(r, j.rule.Assume, false, SamplingAssumed)
	case j.silent:
		r.Marks |= flow.MarkAssumed
		return Sampling{Rate: 1, Source: SamplingUnknown}
	}
	return Sampling{Rate: 1}
}

// set gives a record its rate. Counters that the exporter has multiplied stay as they are.
func (j *joiner) set(r *flow.Record, rate uint32, scaled bool, source SamplingSource) Sampling {
	if !scaled {
		r.Sampling = rate
	}
	if rate > 1 {
		r.Marks |= flow.MarkSampled
	}
	if scaled && source != SamplingAssumed {
		source = SamplingScaled
	}
	return Sampling{Rate: rate, Source: source}
}

// multiplied reports whether the exporter multiplies its counters by its rate, as Open vSwitch does: every count is a multiple
// of one number, and a record without duration, a single packet, tells that number.
func (j *joiner) multiplied(r *flow.Record) bool {
	if r.Packets == 0 {
		return j.witness && j.gcd > 1
	}
	j.gcd = gcd(j.gcd, r.Packets)
	if r.StartNS == r.EndNS && r.Packets == j.gcd && r.MinLen == r.MaxLen {
		j.witness = true
	}
	return j.witness && j.gcd > 1
}

func gcd(a, b uint64) uint64 {
	for a != 0 {
		a, b = b%a, a
	}
	return b
}

// name fills in what options and rules name.
func (j *joiner) name(k exporterKey, d *told, r *flow.Record) {
	if r.InIfName == "" {
		r.InIfName = j.ifName(k, d, r.InIf)
	}
	if r.OutIfName == "" {
		r.OutIfName = j.ifName(k, d, r.OutIf)
	}
	if d != nil {
		j.tables(d, r)
	}
	if r.Observer == "" {
		r.Observer = j.observer(k, d, r)
	}
}

func (j *joiner) ifName(k exporterKey, d *told, number uint32) string {
	if d != nil {
		if name := d.Ifs[number]; name != "" {
			return name
		}
	}
	if j.rule != nil {
		return j.rule.port(k.protocol, k.domain&0xff, number)
	}
	return ""
}

// tables looks up what a record names by number.
func (j *joiner) tables(d *told, r *flow.Record) {
	if len(d.VRFs) > 0 && r.VRF == "" {
		for _, key := range [...]string{"0.234=", "0.235="} {
			if id, ok := extra(r.Extra, key); ok && r.VRF == "" {
				r.VRF = d.VRFs[uint32(id)]
			}
		}
	}
	if len(d.Apps) > 0 && r.App == "" {
		if id, ok := extra(r.Extra, "0.95="); ok && d.Apps[id] != "" {
			r.App = d.Apps[id]
			r.AppHow = max(r.AppHow, flow.AppExporter)
		}
	}
}

// observer names the place: its point, else the port on whose side the record was made, else the switch.
func (j *joiner) observer(k exporterKey, d *told, r *flow.Record) string {
	if d != nil && r.Point != 0 && d.Points[r.Point] != "" {
		return d.Points[r.Point]
	}
	port := r.InIfName
	if r.Direction == 1 {
		port = r.OutIfName
	}
	switch {
	case port != "":
		return port
	case d != nil && d.Name != "":
		return d.Name
	case j.rule != nil && k.protocol == flowproto.NetFlow5:
		return j.rule.Switches[k.domain&0xff].Name
	}
	return ""
}
