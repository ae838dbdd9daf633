package session

import (
	"math"
	"strconv"
	"strings"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto"
	"crosstap/internal/ie"
)

// told is what an exporter has said in option records of one observation domain. Names are bounded.
type told struct {
	Rate     uint32            `json:"rate,omitempty"`  // of the whole domain: one packet in so many
	Flows    uint32            `json:"flows,omitempty"` // one flow in so many is told
	Samplers map[uint64]uint32 `json:"samplers,omitempty"`
	ByIf     map[uint32]uint32 `json:"by_if,omitempty"` // rates of interfaces
	Ifs      map[uint32]string `json:"ifs,omitempty"`   // names of interfaces
	VRFs     map[uint32]string `json:"vrfs,omitempty"`
	Apps     map[uint64]string `json:"apps,omitempty"` // names of applications by their identifier
	Points   map[uint64]string `json:"points,omitempty"`
	Name     string            `json:"name,omitempty"` // of the domain

	notSent  uint64 // flows that the exporter says it could not send, since it started; so far
	hasSent  bool   // notSent is known
	newlyNot uint64 // of them, those since the account was read
}

// maxTold bounds each table of a domain; a name is cut at maxName bytes.
const (
	maxTold = 16384
	maxName = 254
)

// Elements of options, RFC 5477, RFC 5102 and IANA's registry; v9 scopes of RFC 3954, section 6.1.
const (
	v9ScopeInterface = 2

	elInterface, elEgress                     = 10, 14
	elInterval                                = 34
	elSampler, elSamplerInterval              = 48, 50
	elIfName, elIfDescription                 = 82, 83
	elApplication, elApplicationName          = 95, 96
	elPoint                                   = 138
	elNotSentFlows                            = 166
	elIngressVRF, elEgressVRF, elVRFName      = 234, 235, 236
	elDomainName                              = 300
	elSelector                                = 302
	elPacketInterval, elPacketSpace           = 305, 306
	elSamplingSize, elSamplingPopulation      = 309, 310
	elSamplingProbability                     = 311
	elStationName                             = 348
	elFlowSelectorAlgorithm                   = 390
	elFlowInterval, elFlowSpacing, elStageRow = 397, 398, 335
)

// option takes in one option record. It returns how many entries it has added.
func (t *told) option(o flowproto.Option) (added int) {
	if _, ok := o.Value(0, elStageRow); ok {
		return 0 // a row of a ledger: its selector is no sampler
	}
	added += t.sampling(o)
	if i, ok := interfaceOf(o); ok {
		added += put(&t.Ifs, uint32(i), firstText(o, elIfName, elIfDescription))
	}
	if v, ok := o.Uint(0, elIngressVRF); ok {
		added += put(&t.VRFs, uint32(v), o.Text(0, elVRFName))
	} else if v, ok := o.Uint(0, elEgressVRF); ok {
		added += put(&t.VRFs, uint32(v), o.Text(0, elVRFName))
	}
	if v, ok := o.Uint(0, elApplication); ok {
		added += put(&t.Apps, v, o.Text(0, elApplicationName))
	}
	if v, ok := o.Uint(0, elPoint); ok {
		added += put(&t.Points, v, firstText(o, elStationName, elIfName))
	} else if name := o.Text(0, elDomainName); name != "" {
		t.Name = clean(name)
	}
	if v, ok := o.Uint(0, elNotSentFlows); ok {
		t.sent(v)
	}
	return added
}

// interfaceOf returns the interface that the record is about.
func interfaceOf(o flowproto.Option) (uint64, bool) {
	for _, e := range [...]struct {
		pen uint32
		id  uint16
	}{{ie.NetFlow9Scope, v9ScopeInterface}, {0, elInterface}, {0, elEgress}} {
		if v, ok := o.Uint(e.pen, e.id); ok {
			return v, true
		}
	}
	return 0, false
}

// sampling takes in how packets and flows are chosen. A record that names a sampler tells of that one; one that names an
// interface of that; else it tells of the domain.
func (t *told) sampling(o flowproto.Option) (added int) {
	rate, flows := rateOf(o)
	if flows > 0 {
		t.Flows = flows
	}
	if rate == 0 {
		return 0
	}
	sampler, ok := o.Uint(0, elSampler)
	if !ok {
		sampler, ok = o.Uint(0, elSelector)
	}
	if ok {
		return put(&t.Samplers, sampler, rate)
	}
	if i, ok := interfaceOf(o); ok {
		return put(&t.ByIf, uint32(i), rate)
	}
	t.Rate = rate
	return 0
}

// rateOf reads the rates of a record, 0 for none.
func rateOf(o flowproto.Option) (packets, flows uint32) {
	get := func(id uint16) uint64 { v, _ := o.Uint(0, id); return v }
	_, ofFlows := o.Value(0, elFlowSelectorAlgorithm)
	switch {
	case get(elPacketInterval) > 0:
		packets = ratio(get(elPacketInterval)+get(elPacketSpace), get(elPacketInterval))
	case get(elSamplingSize) > 0:
		packets = ratio(get(elSamplingPopulation), get(elSamplingSize))
	case get(elInterval) > 0:
		packets = ratio(get(elInterval), 1)
	case get(elSamplerInterval) > 0:
		packets = ratio(get(elSamplerInterval), 1)
	}
	if n := get(elFlowInterval); n > 0 {
		flows = ratio(n+get(elFlowSpacing), n)
	}
	if v, ok := o.Value(0, elSamplingProbability); ok {
		rate := ofProbability(v.Bytes)
		if ofFlows {
			flows = rate
		} else if packets == 0 {
			packets = rate
		}
	}
	return packets, flows
}

func ratio(n, of uint64) uint32 { return uint32(min((n+of/2)/of, math.MaxUint32)) }

// ofProbability is the rate of a sampling probability, a float of 4 or 8 bytes.
func ofProbability(b []byte) uint32 {
	var p float64
	switch len(b) {
	case 8:
		p = math.Float64frombits(be(b))
	case 4:
		p = float64(math.Float32frombits(uint32(be(b))))
	}
	if !(p > 0) || p > 1 {
		return 0
	}
	return uint32(min(math.Round(1/p), math.MaxUint32))
}

func be(b []byte) (v uint64) {
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}

// sent takes in the total of flows not sent. A total that falls is that of an exporter that has started anew.
func (t *told) sent(total uint64) {
	if t.hasSent && total > t.notSent {
		t.newlyNot += total - t.notSent
	}
	t.notSent, t.hasSent = total, true
}

// put enters a name or rate; an empty one is left out, and so is one for which there is no room.
func put[K comparable, V comparable](m *map[K]V, k K, v V) (added int) {
	var none V
	if v == none {
		return 0
	}
	if s, ok := any(v).(string); ok {
		v = any(clean(s)).(V)
	}
	if *m == nil {
		*m = make(map[K]V)
	}
	if _, ok := (*m)[k]; !ok {
		if len(*m) >= maxTold {
			return 0
		}
		added = 1
	}
	(*m)[k] = v
	return added
}

func firstText(o flowproto.Option, ids ...uint16) string {
	for _, id := range ids {
		if s := clean(o.Text(0, id)); s != "" {
			return s
		}
	}
	return ""
}

// clean makes a name fit to be shown: padding goes, and it is valid UTF-8.
func clean(s string) string {
	s = strings.TrimSpace(strings.TrimRight(s, "\x00"))
	return strings.ToValidUTF8(s[:min(len(s), maxName)], "\uFFFD")
}

// of returns the rate for a record, 0 when nothing is told. A sampler that the record names and that is not known tells nothing.
func (t *told) of(r *flow.Record) uint32 {
	rate := t.packets(r)
	if t.Flows > 1 {
		rate = uint32(min(uint64(max(rate, 1))*uint64(t.Flows), math.MaxUint32))
	}
	return rate
}

func (t *told) packets(r *flow.Record) uint32 {
	if len(t.Samplers) > 0 {
		for _, key := range [...]string{"0.48=", "0.302="} {
			if id, ok := extra(r.Extra, key); ok {
				return t.Samplers[id]
			}
		}
	}
	if len(t.ByIf) > 0 {
		if r.Direction == 1 {
			if n := t.ByIf[r.OutIf]; n > 0 {
				return n
			}
		} else if n := t.ByIf[r.InIf]; n > 0 {
			return n
		}
	}
	if t.Rate == 0 && len(t.Samplers) == 1 { // records do not name it: the domain has but one
		for _, n := range t.Samplers {
			return n
		}
	}
	return t.Rate
}

// extra finds an element among those that no field of the record holds. key is "enterprise.id=".
func extra(text, key string) (v uint64, ok bool) {
	for len(text) > 0 {
		var word string
		word, text, _ = strings.Cut(text, " ")
		if hex, found := strings.CutPrefix(word, key); found {
			v, err := strconv.ParseUint(hex, 16, 64)
			return v, err == nil
		}
	}
	return 0, false
}
