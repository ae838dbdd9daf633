package vsphere

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"crosstap/internal/control/platform"
)

// export notes the flow export that a session wants. A switch has one exporter, so sessions of one collector share it.
func (b *stepper) export(s *platform.Session) {
	sw := b.now.Switches[s.Switch]
	if sw == nil || !slices.Contains(sw.Can.Methods, platform.MethodFlowsOnly) || s.Flows == nil {
		b.refuse(s, platform.Refusal{Reason: platform.ReasonCapability, Message: "this switch cannot export flows", Fix: "only distributed switches do"})
		return
	}
	groups := b.groupsOf(s, sw)
	f := b.exportFields(s)
	if b.kept[s.Mark.Key()] {
		return
	}
	if have := b.flows[sw.ID]; have != nil {
		same := have.Fields["collector"] == f["collector"] && have.Fields["port"] == f["port"] && have.Fields["sampling"] == f["sampling"]
		if !same {
			b.refuse(s, platform.Refusal{
				Reason: platform.ReasonConflict, Message: fmt.Sprintf("a switch has one exporter, and tap %s has it send to %s:%s", have.mark.Policy, have.Fields["collector"], have.Fields["port"]),
				Fix: "let both taps use one collector, sampling and timeouts",
			})
			return
		}
		groups = append(groups, splitNames(have.Fields["groups"])...)
		have.Fields["groups"] = joinNames(groups)
		have.about = aboutExport(have.Fields)
		return
	}
	f["groups"], f["mark"] = joinNames(groups), s.Mark.Text()
	dropEmpty(f)
	b.flows[sw.ID] = &wanted{
		change: change{Kind: kindIPFIX, Switch: sw.ID, Name: sw.Name, Fields: f}, mark: s.Mark, phase: platform.PhaseSwitch, about: aboutExport(f),
	}
}

func aboutExport(f fields) string {
	return fmt.Sprintf("export flows of port groups %s to %s:%s, %s", strings.Join(splitNames(f["groups"]), ", "), f["collector"], f["port"], aboutSampling(f["sampling"]))
}

// groupsOf returns the port groups of a session's sources, all of the switch without sources.
func (b *stepper) groupsOf(s *platform.Session, sw *platform.Switch) (out []string) {
	for _, src := range s.Sources {
		p := b.now.Ports[src.Port]
		switch {
		case p == nil || p.Switch != sw.ID:
			b.refuse(s, platform.Refusal{Reason: platform.ReasonNoMatch, Port: src.Port, Message: fmt.Sprintf("port %s is not on this switch", src.Port), Fix: "plan again"})
		case p.Kind == platform.PortUplink || p.Kind == platform.PortKernel:
			r, _ := b.badSource(p, src.Dir)
			b.refuse(s, r)
		default:
			out = append(out, p.Group)
		}
	}
	if len(s.Sources) > 0 {
		return out
	}
	for _, p := range b.now.Ports {
		if p.Switch == sw.ID && p.Kind == platform.PortVM && p.Group != "" {
			out = append(out, p.Group)
		}
	}
	return out
}

// exportFields writes the settings of an export, nil when they are refused.
func (b *stepper) exportFields(s *platform.Session) fields {
	x := s.Flows
	active, idle := int(cmp.Or(x.Active.Seconds(), 60)), int(cmp.Or(x.Idle.Seconds(), 15))
	sampling := x.Sampling
	if sampling <= 1 {
		sampling = 0
	}
	bad := ""
	switch {
	case x.Protocol != "" && x.Protocol != "ipfix":
		bad = fmt.Sprintf("distributed switches export ipfix, not %s", x.Protocol)
	case !x.To.IsValid():
		bad = "the export has no collector"
	case active < 60 || active > 3600:
		bad = fmt.Sprintf("active timeout %ds: 60 s to 1 h are possible", active)
	case idle < 10 || idle > 600:
		bad = fmt.Sprintf("idle timeout %ds: 10 s to 10 min are possible", idle)
	case sampling > 16384:
		bad = fmt.Sprintf("sampling 1 in %d: 16384 at most", sampling)
	}
	if bad != "" {
		b.refuse(s, platform.Refusal{Reason: platform.ReasonCapability, Message: bad})
		return nil
	}
	f := fields{
		"collector": x.To.Addr().WithZone("").String(), "port": number(int32(x.To.Port())), "domain": number(int64(x.Domain)), "active": number(active),
		"idle": number(idle), "sampling": number(sampling), "internal": flag(x.Internal),
	}
	if ip, err := netip.ParseAddr(b.set.Options["switch-ip"]); err == nil && x.To.Addr().Is4() {
		f["switch-ip"] = ip.String()
	}
	return f
}

// capture returns the capture VM of a host with its port groups and adapters. Port groups are new ones: those of tenants are never
// opened.
func (b *stepper) capture(s *platform.Session) []wanted {
	c := s.Capture
	if c == nil || len(c.NICs) == 0 || b.now.Hosts[s.Host] == nil {
		b.refuse(s, platform.Refusal{Reason: platform.ReasonNoMatch, Message: "the session names no capture VM, adapter or host"})
		return nil
	}
	if len(c.NICs) > maxNICs {
		b.refuse(s, platform.Refusal{
			Reason: platform.ReasonLimit, Message: fmt.Sprintf("%d switches on one host, and a VM has %d adapters at most", len(c.NICs), maxNICs), Fix: "choose fewer switches",
		})
	}
	var standard, all []string
	for _, n := range c.NICs {
		all = append(all, n.Group)
		if n.Kind == platform.SwitchStandard {
			standard = append(standard, n.Group)
		}
	}
	note := s.Mark.Text()
	if c.Image != "" {
		note += " image=" + url.QueryEscape(c.Image)
	}
	if len(standard) > 0 {
		note += " groups=" + joinNames(standard)
	}
	vm := wanted{mark: s.Mark, phase: platform.PhasePrepare, about: fmt.Sprintf("capture VM %s from %q, kept on its host", c.VM, c.Image)}
	vm.change = change{Kind: kindMachine, Host: s.Host, Name: c.VM, Fields: fields{"name": c.VM, "host": s.Host, "note": note}}
	out := []wanted{vm}
	if o, foreign := b.find(&vm); o == nil && !foreign && c.Image == "" {
		b.refuse(s, platform.Refusal{
			Reason: platform.ReasonNoMatch, Message: fmt.Sprintf("there is no capture VM %q, and no template to make it from", c.VM),
			Fix: fmt.Sprintf("name a template (capture: image:), or make the VM yourself and write into its notes: %s", s.Mark.Text()),
		})
	}
	for i := range c.NICs {
		if w, fresh := b.captureGroup(s, &c.NICs[i]); fresh {
			out = append(out, w)
		}
	}
	nics := wanted{mark: s.Mark, phase: platform.PhaseSwitch, about: fmt.Sprintf("attach capture VM %s to %s and switch it on", c.VM, strings.Join(all, ", "))}
	nics.change = change{Kind: kindAdapters, Host: s.Host, Name: c.VM, Fields: fields{"name": c.VM, "host": s.Host, "adapters": joinNames(all), "power": "on"}}
	return append(out, nics)
}

// captureGroup returns the port group of one adapter; fresh is not set when another session of this plan has brought it already.
func (b *stepper) captureGroup(s *platform.Session, n *platform.CaptureNIC) (w wanted, fresh bool) {
	w = wanted{mark: s.Mark, phase: platform.PhasePrepare}
	if !strings.HasPrefix(n.Group, platform.MarkPrefix) {
		b.refuse(s, platform.Refusal{
			Reason: platform.ReasonConflict, Message: fmt.Sprintf("port group %q: only groups whose name begins with %s are made promiscuous", n.Group, platform.MarkPrefix), Fix: "rename it in the policy",
		})
	}
	sw := b.now.Switches[n.Switch]
	switch {
	case sw == nil || !slices.Contains(sw.Can.Methods, platform.MethodPromiscuous):
		b.refuse(s, platform.Refusal{Reason: platform.ReasonCapability, Switch: n.Switch, Message: "the switch takes no port group for capture"})
		return w, false
	case n.Kind == platform.SwitchStandard:
		w.change = change{Kind: kindHostGroup, Host: s.Host, Switch: n.Switch, Name: n.Group}
		w.Fields = fields{"name": n.Group, "switch": sw.Name, "vlan": fmt.Sprint(vlanAll), "promiscuous": "yes"}
		w.about = fmt.Sprintf("port group %s on %s, VLAN %d, promiscuous", n.Group, sw.Name, vlanAll)
	default:
		w.change = change{Kind: kindGroup, Switch: n.Switch, Name: n.Group}
		w.Fields = fields{"name": n.Group, "description": s.Mark.Text(), "type": "earlyBinding", "promiscuous": "yes", "vlans": trunkAll}
		w.about = fmt.Sprintf("port group %s on %s, VLAN trunk %s, promiscuous", n.Group, sw.Name, trunkAll)
	}
	if b.planned[w.place()] != nil {
		return w, false
	}
	b.planned[w.place()] = w.Fields
	return w, true
}
