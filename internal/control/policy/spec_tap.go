package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/filter"
	"crosstap/internal/frame"
	"crosstap/internal/nearest"
)

// tapSpec is the specification of a Tap as it is written.
type tapSpec struct {
	Select       selectSpec   `yaml:"select"`
	From         string       `yaml:"from"`
	Exclude      selectSpec   `yaml:"exclude"`
	Method       string       `yaml:"method"`
	Direction    string       `yaml:"direction"`
	Filter       string       `yaml:"filter"`
	VLANs        []int        `yaml:"vlans"`
	Slice        int          `yaml:"slice"`
	Sample       int          `yaml:"sample"`
	Groom        []string     `yaml:"groom"`
	Destinations []string     `yaml:"destinations"`
	Flows        *flowsSpec   `yaml:"flows"`
	Budget       *budgetSpec  `yaml:"budget"`
	TTL          string       `yaml:"ttl"`
	Lease        string       `yaml:"lease"`
	Drift        string       `yaml:"drift"`
	Tenant       string       `yaml:"tenant"`
	Allow        []string     `yaml:"allow"`
	Paused       bool         `yaml:"paused"`
	Capture      *captureSpec `yaml:"capture"`
}

type flowsSpec struct {
	Protocol string `yaml:"protocol"`
	Sampling int    `yaml:"sampling"`
	Active   string `yaml:"active"`
	Idle     string `yaml:"idle"`
	Domain   uint32 `yaml:"domain"`
}

type budgetSpec struct {
	Mirror   string `yaml:"mirror"`
	CPU      string `yaml:"cpu"`
	OnExceed string `yaml:"onExceed"`
}

type captureSpec struct {
	VM    string `yaml:"vm"`
	Image string `yaml:"image"`
	Group string `yaml:"group"`
}

// keysTap are the keys of a Tap, for suggestions; the schema has them too.
var keysTap = []string{
	"select", "from", "exclude", "method", "direction", "filter", "vlans", "slice", "sample", "groom", "destinations", "flows", "budget", "ttl", "lease",
	"drift", "tenant", "allow", "paused", "capture", "protocol", "sampling", "active", "idle", "domain", "mirror", "cpu", "onExceed", "vm", "image",
	"group", "vms", "hosts", "tenants", "segments", "groups", "switches", "ports", "platforms", "tags", "where",
}

// methods of taps.
var methods = []string{
	string(platform.MethodAuto), string(platform.MethodMirror), string(platform.MethodRemoteMirror), string(platform.MethodPromiscuous),
	string(platform.MethodAgent), string(platform.MethodFlowsOnly),
}

// Limits of a tap.
const (
	minSlice     = 14 // an Ethernet header
	maxSlice     = 65535
	maxSample    = 65535
	minLease     = time.Minute
	defaultFlows = 64 // one packet in so many: cheaper than what can be noticed on a switch
)

func (r *reader) tap(meta Meta) *Tap {
	s := spec[tapSpec](r, keysTap)
	t := &Tap{
		Meta: meta, Filter: strings.TrimSpace(s.Filter), Slice: s.Slice, Sample: s.Sample, Groom: s.Groom, Destinations: s.Destinations,
		Tenant: s.Tenant, Paused: s.Paused, Enforce: true, Direction: platform.Both,
	}
	t.Select, t.Exclude = r.selector("$.spec.select", s.Select), r.selector("$.spec.exclude", s.Exclude)
	if t.Select.Empty() && s.From == "" {
		r.fail("$.spec.select", `say what is to be seen, such as select: 'vm = "web-1"'; everything is select: {vms: ["*"]}`, "is missing")
	}
	t.Method = platform.Method(r.word("$.spec.method", s.Method, methods))
	if s.From != "" {
		r.from(t, &s)
	}
	if s.Direction != "" {
		r.check("$.spec.direction", t.Direction.UnmarshalText([]byte(r.word("$.spec.direction", s.Direction, []string{"both", "ingress", "egress"}))))
	}
	if _, err := filter.Compile(t.Filter, frame.LinkEthernet, filter.Options{}); err != nil {
		r.fail("$.spec.filter", "", "%v", err)
	}
	r.numbers(t, s.VLANs)
	t.TTL, t.Lease = r.duration("$.spec.ttl", s.TTL), r.duration("$.spec.lease", s.Lease)
	if t.Lease != 0 && t.Lease < minLease {
		r.fail("$.spec.lease", "leave it out for no lease", "%v: must be at least %v, so that it can be renewed in time", t.Lease, minLease)
	}
	t.Enforce = r.word("$.spec.drift", s.Drift, []string{"enforce", "report"}) == "enforce"
	for i, a := range s.Allow {
		t.Allow = append(t.Allow, Allowance(r.word(at("$.spec.allow", i), a, words(Allowances()))))
	}
	r.flows(t, s.Flows)
	r.budget(t, s.Budget)
	if c := s.Capture; c != nil {
		t.Capture = Capture(*c)
	}
	r.destinations(t)
	return t
}

func (r *reader) numbers(t *Tap, vlans []int) {
	if t.Slice != 0 && (t.Slice < minSlice || t.Slice > maxSlice) {
		r.fail("$.spec.slice", "leave it out for whole frames", "%d bytes: must be %d to %d", t.Slice, minSlice, maxSlice)
	}
	if t.Sample < 0 || t.Sample > maxSample {
		r.fail("$.spec.sample", "leave it out for all packets", "%d: one packet in 1 to %d", t.Sample, maxSample)
	}
	for i, v := range vlans {
		if v < 1 || v > maxVLAN {
			r.fail(at("$.spec.vlans", i), "", "VLAN %d: must be 1 to %d", v, maxVLAN)
			continue
		}
		t.VLANs = append(t.VLANs, uint16(v))
	}
	slices.Sort(t.VLANs)
	t.VLANs = slices.Compact(t.VLANs)
}

func (r *reader) flows(t *Tap, s *flowsSpec) {
	if s == nil {
		s = &flowsSpec{}
	} else if t.Method != platform.MethodFlowsOnly {
		r.fail("$.spec.flows", "write method: flows-only", "goes with the method flows-only, not %s", t.Method)
	}
	t.Flows = Flows{
		Sampling: s.Sampling, Domain: s.Domain, Active: r.duration("$.spec.flows.active", s.Active), Idle: r.duration("$.spec.flows.idle", s.Idle),
	}
	if s.Protocol != "" {
		t.Flows.Protocol = r.word("$.spec.flows.protocol", s.Protocol, []string{"ipfix", "netflow5", "sflow"})
	}
	if s.Sampling < 0 || s.Sampling > maxSample {
		r.fail("$.spec.flows.sampling", "", "%d: one packet in 1 to %d", s.Sampling, maxSample)
	}
	if s.Sampling == 0 {
		t.Flows.Sampling = defaultFlows
	}
	if t.Flows.Sampling == 1 && t.Flows.Protocol != "netflow5" && t.Method == platform.MethodFlowsOnly && !t.Allows(AllowUnsampled) {
		r.fail("$.spec.flows.sampling", fmt.Sprintf("write allow: [%s], or sample: some 60 %% more work for the switch otherwise", AllowUnsampled),
			"every packet makes a switch that exports much slower")
	}
}

func (r *reader) budget(t *Tap, s *budgetSpec) {
	t.Budget.OnExceed = "refuse"
	if s == nil {
		return
	}
	t.Budget = Budget{
		MirrorBPS: r.rate("$.spec.budget.mirror", s.Mirror), CPU: r.part("$.spec.budget.cpu", s.CPU),
		OnExceed: r.word("$.spec.budget.onExceed", s.OnExceed, []string{"refuse", "warn", "sample", "slice"}),
	}
}

func (r *reader) destinations(t *Tap) {
	seen := map[string]bool{}
	for i, d := range t.Destinations {
		if !nameForm.MatchString(d) {
			r.fail(at("$.spec.destinations", i), "name a resource of kind Destination", "%q is no name", d)
		}
		if seen[d] {
			r.fail(at("$.spec.destinations", i), "", "%q is there twice", d)
		}
		seen[d] = true
	}
	if len(t.Destinations) == 0 && t.Method != platform.MethodPromiscuous {
		r.fail("$.spec.destinations", "name resources of kind Destination", "is missing")
	}
}

// word checks a word of a fixed list, whose first is the default.
func (r *reader) word(place, got string, list []string) string {
	if got == "" {
		return list[0]
	}
	if !slices.Contains(list, got) {
		r.fail(place, nearest.Hint(got, list, "one of: "+strings.Join(list, ", ")), "%q is not known here", got)
	}
	return got
}

func words[T ~string](list []T) (out []string) {
	for _, w := range list {
		out = append(out, string(w))
	}
	return out
}

func (r *reader) check(place string, err error) {
	if err != nil {
		r.fail(place, "", "%v", err)
	}
}

// at is the place of one item of a list.
func at(place string, i int) string { return fmt.Sprintf("%s[%d]", place, i) }
