//go:build linux

package linux

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"crosstap/internal/control/platform"
)

// makeDevices makes what is missing and puts right what differs.
func (l *planner) makeDevices() {
	for _, name := range slices.Sorted(maps.Keys(l.devices)) {
		d := l.devices[name]
		o := l.object(name)
		s := platform.Step{Phase: platform.PhasePrepare, Object: kindOf(&d) + " " + name}
		switch {
		case o == nil:
			s.Action, s.Summary, s.Commands = platform.Create, d.summary(), d.commands()
			l.step(l.users[name], s, doing{Device: &d}, nil)
		case o.Raw[rawKind] != d.Kind || o.Raw[rawTunnel] != "" && !strings.HasSuffix(d.Alias, " to "+o.Raw[rawTunnel]):
			l.again[name] = true
			s.Action, s.Summary, s.Commands = platform.Change, d.summary(), append([]string{"ip link delete " + name}, d.commands()...)
			s.Why = fmt.Sprintf("the device leads to %s", cmp.Or(o.Raw[rawTunnel], o.Raw[rawKind]))
			l.step(l.users[name], s, doing{Device: &d, Again: true}, nil)
		default:
			l.changeDevice(&d, o, s)
		}
	}
}

func (l *planner) changeDevice(d *device, o *platform.Object, s platform.Step) {
	var why, commands []string
	if o.Raw[rawAlias] != d.Alias {
		why = append(why, fmt.Sprintf("alias is %q", o.Raw[rawAlias]))
		commands = append(commands, fmt.Sprintf("ip link set dev %s alias %s", d.Name, quote(d.Alias)))
	}
	if d.Kind != "bridge" && o.Raw[rawUp] != "true" {
		why = append(why, "the device is down")
		commands = append(commands, fmt.Sprintf("ip link set dev %s up", d.Name))
	}
	if why == nil {
		return
	}
	old := *d
	old.Alias = o.Raw[rawAlias]
	s.Action, s.Summary, s.Commands, s.Why = platform.Change, d.summary(), commands, strings.Join(why, ", ")
	l.step(l.users[d.Name], s, doing{Device: d}, &before{Device: &old})
}

func kindOf(d *device) string {
	if d.Kind == "bridge" {
		return kindTap
	}
	return kindTunnel
}

// summary tells people what a device is for.
func (d *device) summary() string {
	if d.Kind == "bridge" {
		m := platform.ParseMark(d.Alias)
		return "note of tap " + m.Key()
	}
	return fmt.Sprintf("%s to %s, key %d", d.Encap, d.Addr, d.Key)
}

// removeDevices ends carriers of sessions that are no more, and tunnels that nobody uses.
func (l *planner) removeDevices() {
	spared := l.sparedDevices()
	for _, o := range platform.Sorted(l.now.Objects) {
		if o.Mark.Owner != l.owner || o.Kind != kindTap && o.Kind != kindTunnel {
			continue
		}
		if _, wanted := l.devices[o.Name]; wanted || spared[o.Name] {
			continue
		}
		d := device{Name: o.Name, Kind: o.Raw[rawKind], Alias: o.Raw[rawAlias]}
		d.recall()
		s := platform.Step{
			Phase: platform.PhaseCleanup, Action: platform.Remove, Object: kindOf(&d) + " " + d.Name, Summary: "remove " + d.summary(),
			Commands: []string{"ip link delete " + d.Name},
		}
		l.step(o.Mark, s, doing{Delete: d.Name}, &before{Device: &d})
	}
}

// sparedDevices are the carriers of refused sessions and the tunnels that their filters copy to.
func (l *planner) sparedDevices() map[string]bool {
	out := map[string]bool{}
	for _, o := range l.now.Objects {
		if o.Kind == kindTap && l.spared[cookieOf(o.Mark, false).session] {
			out[o.Name] = true
		}
	}
	for _, list := range l.present() {
		for _, h := range list {
			if c, _ := parseCookie(h.spec.Cookie); l.spared[c.session] {
				for _, name := range h.spec.To {
					out[name] = true
				}
			}
		}
	}
	return out
}

// recall fills in what the alias of a tunnel tells of it.
func (d *device) recall() {
	if d.Kind == "bridge" {
		return
	}
	_, key, _ := strings.Cut(d.Alias, " to ")
	var addr string
	if _, err := fmt.Sscanf(key, "%s %s port %d key %d dscp %d", &d.Encap, &addr, &d.UDP, &d.Key, &d.DSCP); err == nil {
		d.Addr = parseAddr(addr)
	}
}
