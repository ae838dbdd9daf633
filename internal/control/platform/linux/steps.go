//go:build linux

package linux

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"crosstap/internal/control/platform"
	"crosstap/internal/kernel"
)

// filterSpec is one filter, as a step keeps it.
type filterSpec struct {
	Dir    platform.Direction `json:"dir"`
	Handle uint32             `json:"handle"`
	Cookie string             `json:"cookie"`
	Code   string             `json:"code"`
	To     []string           `json:"to"` // devices
}

// portStep changes the filters of one port.
type portStep struct {
	Port  string       `json:"port"`
	Index int          `json:"index"` // what the port was when the step was planned
	VM    string       `json:"vm,omitempty"`
	Set   []filterSpec `json:"set,omitempty"`
	// Whole are the directions of which Set copies every packet.
	Whole  platform.Direction `json:"whole,omitempty"`
	Remove []filterSpec       `json:"remove,omitempty"`
}

// doing is Step.Do. One of its fields is set.
type doing struct {
	Device *device   `json:"device,omitempty"` // make it, or make it so
	Again  bool      `json:"again,omitempty"`  // the device is there but cannot be changed to what it shall be
	Delete string    `json:"delete,omitempty"` // a device
	Port   *portStep `json:"port,omitempty"`
}

// before is Step.Before.
type before struct {
	Device  *device      `json:"device,omitempty"`
	Filters []filterSpec `json:"filters,omitempty"`
}

// had is a filter that is there.
type had struct {
	spec  filterSpec
	index int
	tail  bool // it ends with "continue"
	mark  platform.Mark
}

// planner makes the steps of one call of Steps.
type planner struct {
	p     *Platform
	now   *platform.Snapshot
	owner string

	devices  map[string]device        // that shall be
	users    map[string]platform.Mark // whose step makes a device
	filters  map[string][]wanted      // that shall be, by port
	spared   map[uint32]bool          // sessions that are refused: what they have stays
	again    map[string]bool          // devices that are made a second time
	vnis     map[string]string        // tunnel by VNI and port
	programs map[string]compiled
	steps    []platform.Step
	refusals []platform.Refusal
}

type wanted struct {
	spec  filterSpec
	mark  platform.Mark
	whole bool // it copies every packet
}

// Steps implements platform.Platform.
func (p *Platform) Steps(now *platform.Snapshot, all platform.Want) ([]platform.Step, []platform.Refusal) {
	l := &planner{
		p: p, now: now, owner: all.Owner, devices: map[string]device{}, users: map[string]platform.Mark{}, filters: map[string][]wanted{},
		spared: map[uint32]bool{}, again: map[string]bool{}, vnis: map[string]string{},
		programs: map[string]compiled{},
	}
	l.foreignVNIs()
	l.spare(all.Keep)
	want := slices.Clone(all.Sessions)
	slices.SortStableFunc(want, func(a, b platform.Session) int { return cmp.Compare(a.Mark.Key(), b.Mark.Key()) })
	for i := range want {
		l.session(&want[i])
	}
	l.makeDevices()
	l.setFilters()
	l.removeFilters()
	l.removeDevices()
	platform.SortSteps(l.steps)
	return l.steps, l.refusals
}

// spare leaves alone what there is of policies that the control line does not know.
func (l *planner) spare(policies map[string]bool) {
	for _, o := range l.now.Objects {
		if o.Kind == kindTap && o.Mark.Owner == l.owner && policies[o.Mark.Policy] {
			l.spared[cookieOf(o.Mark, false).session] = true
		}
	}
}

func (l *planner) step(m platform.Mark, s platform.Step, do doing, was *before) {
	s.Platform, s.Host, s.Policy, s.Session = l.now.Platform, l.p.host, m.Policy, m.Key()
	s.Do = platform.MustJSON(do)
	if was != nil {
		s.Before = platform.MustJSON(was)
	}
	l.steps = append(l.steps, s)
}

// device returns the object of a device, nil when there is none of ours.
func (l *planner) object(name string) *platform.Object { return l.now.Objects["device/"+name] }

// present returns the filters that are on a port at our place and are this owner's, by direction and handle.
func (l *planner) present() map[string][]had {
	out := map[string][]had{}
	for _, o := range platform.Sorted(l.now.Objects) {
		if o.Kind != kindFilter {
			continue
		}
		c, ours := parseCookie(o.Raw[rawCookie])
		if !ours || c.owner != ownerHash(l.owner) {
			continue
		}
		h := had{mark: o.Mark, tail: o.Raw[rawTail] != "", spec: filterSpec{Cookie: o.Raw[rawCookie], Code: o.Raw[rawCode], To: strings.Fields(o.Raw[rawTo])}}
		_ = h.spec.Dir.UnmarshalText([]byte(o.Raw[rawDir]))
		handle, _ := strconv.ParseUint(o.Raw[rawHandle], 10, 32)
		h.spec.Handle = uint32(handle)
		h.index, _ = strconv.Atoi(o.Raw[rawIndex])
		out[o.Raw[rawPort]] = append(out[o.Raw[rawPort]], h)
	}
	return out
}

func find1(list []had, dir platform.Direction, handle uint32) *had {
	for i := range list {
		if list[i].spec.Dir == dir && list[i].spec.Handle == handle {
			return &list[i]
		}
	}
	return nil
}

// setFilters brings the filters of each port to what they shall be, one step for each port and session.
func (l *planner) setFilters() {
	present := l.present()
	for _, port := range slices.Sorted(maps.Keys(l.filters)) {
		bySession := map[string][]wanted{}
		for _, w := range l.filters[port] {
			bySession[w.mark.Key()] = append(bySession[w.mark.Key()], w)
		}
		for _, key := range slices.Sorted(maps.Keys(bySession)) {
			l.setPort(port, bySession[key], present[port])
		}
	}
}

func (l *planner) setPort(port string, want []wanted, present []had) {
	index, _ := strconv.Atoi(l.now.Ports[port].Tags[tagIndex])
	do := &portStep{Port: port, Index: index}
	if vm := l.now.VMs[l.now.Ports[port].VM]; vm != nil {
		do.VM = vm.Name
	}
	was := &before{}
	mine := l.madeQdisc(port)
	var why, dirs []string
	for _, w := range want {
		w.spec.Cookie = cookieOf(w.mark, mine).String()
		h := find1(present, w.spec.Dir, w.spec.Handle)
		if h != nil {
			diff := l.differs(h, &w.spec)
			if diff == "" {
				continue
			}
			why = append(why, fmt.Sprintf("%s: %s", w.spec.Dir, diff))
			was.Filters = append(was.Filters, h.spec)
		}
		do.Set = append(do.Set, w.spec)
		if w.whole {
			do.Whole |= w.spec.Dir
		}
		dirs = append(dirs, w.spec.Dir.String())
	}
	if do.Set == nil {
		return
	}
	s := platform.Step{
		Phase: platform.PhaseSwitch, Action: platform.Create, Switch: l.now.Ports[port].Switch, Object: kindFilter + " of " + port,
		Summary: fmt.Sprintf("mirror %s (%s) > %s", port, strings.Join(dirs, ", "), l.targets(do.Set[0].To)), Why: strings.Join(why, "; "),
		Commands: do.commands(l.now.Objects["qdisc/"+port]),
	}
	switch {
	case len(was.Filters) > 0:
		s.Action = platform.Change
	case l.now.Objects["qdisc/"+port] == nil && l.now.Ports[port].Up:
		s.Why = "it gets a clsact qdisc, and what it sends in that moment is lost"
	}
	l.step(want[0].mark, s, doing{Port: do}, was)
}

// madeQdisc reports whether the clsact qdisc of a port is, or will be, ours.
func (l *planner) madeQdisc(port string) bool {
	o := l.now.Objects["qdisc/"+port]
	return o == nil || o.Raw[rawOurs] != ""
}

// differs tells in which fields a filter is not what it shall be.
func (l *planner) differs(h *had, w *filterSpec) string {
	var out []string
	if h.spec.Code != w.Code {
		out = append(out, "the packet filter is another")
	}
	again := slices.ContainsFunc(w.To, func(d string) bool { return l.again[d] })
	if again || !slices.Equal(h.spec.To, w.To) {
		out = append(out, "it copies to "+strings.Join(h.spec.To, " "))
	}
	if !h.tail {
		out = append(out, "it hides packets from the filters behind it")
	}
	if a, b := h.spec.Cookie[:24], w.Cookie[:24]; a != b {
		out = append(out, "it is of another session")
	}
	return strings.Join(out, ", ")
}

// targets names devices by what people know.
func (l *planner) targets(devices []string) string {
	var out []string
	for _, name := range devices {
		if d, ok := l.devices[name]; ok {
			name = d.summary()
		}
		out = append(out, name)
	}
	return strings.Join(out, ", ")
}

// removeFilters ends filters that no session accounts for.
func (l *planner) removeFilters() {
	present := l.present()
	for _, port := range slices.Sorted(maps.Keys(present)) {
		bySession := map[uint32][]had{}
		for _, h := range present[port] {
			c, _ := parseCookie(h.spec.Cookie)
			if l.spared[c.session] || l.wants(port, h.spec) {
				continue
			}
			bySession[c.session] = append(bySession[c.session], h)
		}
		for _, session := range slices.Sorted(maps.Keys(bySession)) {
			l.removePort(port, bySession[session])
		}
	}
}

func (l *planner) wants(port string, spec filterSpec) bool {
	return slices.ContainsFunc(l.filters[port], func(w wanted) bool { return w.spec.Dir == spec.Dir && w.spec.Handle == spec.Handle })
}

func (l *planner) removePort(port string, list []had) {
	do, was := &portStep{Port: port, Index: list[0].index}, &before{}
	var dirs []string
	for _, h := range list {
		do.Remove, was.Filters = append(do.Remove, h.spec), append(was.Filters, h.spec)
		dirs = append(dirs, h.spec.Dir.String())
	}
	s := platform.Step{
		Phase: platform.PhaseCleanup, Action: platform.Remove, Object: kindFilter + " of " + port,
		Summary: fmt.Sprintf("end mirror of %s (%s)", port, strings.Join(dirs, ", ")), Commands: do.commands(l.now.Objects["qdisc/"+port]),
	}
	if p := l.now.Ports[port]; p != nil {
		s.Switch = p.Switch
	}
	l.step(list[0].mark, s, doing{Port: do}, was)
}

// commands are what changes the filters of a port with a qdisc, nil for none.
func (s *portStep) commands(qdisc *platform.Object) (out []string) {
	if qdisc == nil && len(s.Set) > 0 {
		out = append(out, fmt.Sprintf("tc qdisc add dev %s stab overhead %d linklayer ethernet clsact", s.Port, kernel.QdiscClass))
	}
	for _, f := range s.Set {
		out = append(out, fmt.Sprintf("tc filter replace dev %s %s pref %d protocol all handle %#x bpf bytecode '%s' %s%s",
			s.Port, f.Dir, preference, f.Handle, f.Code, f.class(), f.actions()))
	}
	if qdisc != nil && len(s.Set) > 0 {
		for keep := range strings.FieldsFuncSeq(qdisc.Raw[rawStays], func(r rune) bool { return r == '\n' }) {
			out = append(out, fmt.Sprintf("tc filter delete dev %s %s bpf", s.Port, keep))
		}
	}
	own := false
	for _, f := range s.Remove {
		out = append(out, fmt.Sprintf("tc filter delete dev %s %s pref %d protocol all handle %#x bpf", s.Port, f.Dir, preference, f.Handle))
		own = own || f.class() != ""
	}
	if own && len(s.Set) == 0 {
		out = append(out, fmt.Sprintf(`test -n "$(tc filter show dev %[1]s ingress; tc filter show dev %[1]s egress)" || `+
			`tc filter add dev %[1]s ingress pref %d protocol %#x handle 1 bpf bytecode '1,6 0 0 0' %s# keeps the qdisc until the interface is quiet`,
			s.Port, keepPlace, kernel.KeepProtocol, claim))
	}
	return out
}

// claim says to tc that a filter's qdisc is ours.
var claim = fmt.Sprintf("flowid %x:%x ", kernel.QdiscClass>>16, kernel.QdiscClass&0xffff)

// class is claim, or nothing at a qdisc that is not ours.
func (f *filterSpec) class() string {
	if c, _ := parseCookie(f.Cookie); c.qdisc {
		return claim
	}
	return ""
}

func (f *filterSpec) actions() string {
	var out []string
	for i, to := range f.To {
		verdict := "pipe"
		if i == len(f.To)-1 {
			verdict = "continue"
		}
		out = append(out, fmt.Sprintf("action mirred egress mirror dev %s %s cookie %s", to, verdict, f.Cookie))
	}
	return strings.Join(out, " ")
}

// quote quotes a word for a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
