package agent

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/tapspec"
)

// specOf makes the tap of a session on its port. guards are expressions for copies of other taps on their way.
func specOf(s *platform.Session, port *platform.Port, guards []string) tapspec.Spec {
	src := s.Sources[0]
	out := tapspec.Spec{
		Name: specName(s.Mark.Policy, port.Name), Role: "port", Labels: map[string]string{platform.MarkKey: s.Mark.Text()},
		Source: tapspec.Source{Interfaces: []string{port.Name}}, Lease: tapspec.Duration(s.Lease.TTL),
	}
	own := port.Raw[rawSide] == sideOwn
	if own {
		// Frames for others that a switch floods are not the machine's.
		out.Role, out.Source.NoPromisc = "vnic", true
	} else {
		guards = nil // a machine's own packets are no copies of ours
	}
	inward := platform.Ingress // what comes into the interface
	if own {
		inward = platform.Egress
	}
	out.Source.IngressOnly = src.Dir == inward
	out.Filter = expression(s, src, inward, guards)
	for _, o := range s.Outputs {
		out.To = append(out.To, tapspec.To{URL: o.URL})
	}
	steps := slices.Clone(s.Groom)
	if s.Sample > 1 {
		steps = append(steps, fmt.Sprintf("sample=1:%d", s.Sample))
	}
	if s.Slice > 0 {
		out.Source.Snap = max(s.Slice, minSnap)
		if s.Slice < minSnap {
			steps = append(steps, fmt.Sprintf("slice=%d", s.Slice))
		}
	}
	out.Groom = tapspec.Steps(strings.Join(steps, ","))
	if f := s.Flows; f != nil {
		out.Meter = tapspec.Meter{Active: tapspec.Duration(f.Active), Idle: tapspec.Duration(f.Idle), Domain: f.Domain}
	}
	if b := s.Budget; b != nil {
		out.Budget = tapspec.Budget{CPU: tapspec.CPU(b.CPU), Mirror: tapspec.Rate(b.MirrorBPS)}
	}
	return out
}

// minSnap is the least that an agent keeps of a frame that it may meter, too.
const minSnap = 160

// specName names the tap of a policy on an interface. What a name cannot have becomes a dash; interfaces with such names are rare.
func specName(policy, iface string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.:@", r) {
			return r
		}
		return '-'
	}, iface)
	return policy + "/" + clean
}

// expression is which frames a session copies. What reads the frame from its start comes first: a "vlan" or a tunnel in the user's part
// moves all that follows it.
func expression(s *platform.Session, src platform.Source, inward platform.Direction, guards []string) string {
	var parts []string
	for _, g := range guards {
		parts = append(parts, "not ("+g+")")
	}
	sent, got := "inbound", "outbound" // by the machine
	if inward == platform.Egress {
		sent, got = got, sent
	}
	var not []string
	if src.Quiet {
		not = append(not, "ether broadcast")
	}
	for _, m := range s.ExceptFrom {
		not = append(not, "ether src "+m.String())
	}
	switch {
	case src.Dir == inward: // the source says so
	case src.Dir == platform.Ingress:
		parts = append(parts, sent)
	case src.Dir == platform.Egress:
		parts = append(parts, got)
	}
	if src.Dir&platform.Egress != 0 && len(not) > 0 {
		text := "not (" + strings.Join(not, " or ") + ")"
		if src.Dir&platform.Ingress != 0 {
			text = "(" + sent + " or " + text + ")"
		}
		parts = append(parts, text)
	}
	if len(s.VLANs) > 0 {
		var tags []string
		for _, v := range s.VLANs {
			tags = append(tags, fmt.Sprintf("ether[14:2] & 0xfff = %d", v))
		}
		parts = append(parts, "vlan and ("+strings.Join(tags, " or ")+")")
	}
	if s.Filter != "" {
		parts = append(parts, "("+s.Filter+")")
	}
	return strings.Join(parts, " and ")
}

// directionOf returns which packets of an interface a specification copies, as the switch sees it: those of one direction when the source or
// the filter says so, as specOf writes it.
func directionOf(s *tapspec.Spec, own bool) platform.Direction {
	inward := platform.Ingress
	if own {
		inward = platform.Egress
	}
	all := conditions(s.Filter)
	switch {
	case s.Source.IngressOnly || slices.Contains(all, "inbound"):
		return inward
	case slices.Contains(all, "outbound"):
		return platform.Both &^ inward
	}
	return platform.Both
}

// conditions returns the parts of a packet filter all of which must hold; none when there are others.
func conditions(filter string) (out []string) {
	depth, part := 0, []string{}
	for _, word := range strings.Fields(filter) {
		switch {
		case depth == 0 && word == "and":
			out, part = append(out, strings.Join(part, " ")), part[:0]
			continue
		case depth == 0 && (word == "or" || strings.Contains(word, "||")):
			return nil
		}
		part = append(part, word)
		depth += strings.Count(word, "(") - strings.Count(word, ")")
	}
	return append(out, strings.Join(part, " "))
}

// farEnd returns the address and port that a destination sends to, when its URL has an address.
func farEnd(text string) (netip.AddrPort, bool) {
	base, _, _ := strings.Cut(text, "?")
	u, err := url.Parse(base)
	if err != nil {
		return netip.AddrPort{}, false
	}
	addr, err := netip.ParseAddr(u.Hostname())
	if err != nil || addr.IsUnspecified() {
		return netip.AddrPort{}, false
	}
	port, err := strconv.ParseUint(cmp.Or(u.Port(), ports[u.Scheme], "0"), 10, 16)
	return netip.AddrPortFrom(addr.Unmap().WithZone(""), uint16(port)), err == nil
}

// ports are those of destinations whose URL has none.
var ports = map[string]string{
	"vxlan": "4789", "geneve": "6081", "ipfix": "4739", "ipfix+tcp": "4739", "ipfix+tls": "4740", "netflow5": "2055", "netflow9": "2055", "sflow": "6343",
}

// guardOf is the expression for what is on its way to a destination; "" when that is not known. Two taps of one machine with different
// tools would copy each other's copies without end.
func guardOf(text string) string {
	scheme, _, _ := strings.Cut(text, ":")
	to, ok := farEnd(text)
	if !ok {
		return ""
	}
	host := "dst host " + to.Addr().String()
	switch scheme {
	case "vxlan", "geneve", "udp", "ipfix", "netflow5", "netflow9", "sflow":
		return fmt.Sprintf("%s and udp dst port %d", host, to.Port())
	case "gre", "erspan2", "erspan3":
		return host + " and proto 47"
	case "ipfix+tcp", "ipfix+tls", "tls":
		return fmt.Sprintf("%s and tcp dst port %d", host, to.Port())
	}
	return ""
}

// differ tells in which fields a specification is not as it shall be, for people.
func differ(have, want *tapspec.Spec) string {
	var out []string
	text := func(name, a, b string) {
		if a != b {
			out = append(out, fmt.Sprintf("%s is %q, not %q", name, a, b))
		}
	}
	value := func(name string, a, b any) { text(name, fmt.Sprint(a), fmt.Sprint(b)) }
	text("filter", have.Filter, want.Filter)
	text("groom", string(have.Groom), string(want.Groom))
	text("role", have.Role, want.Role)
	text("observer", have.Observer, want.Observer)
	value("source", have.Source, want.Source)
	value("to", have.To, want.To)
	value("meter", have.Meter, want.Meter)
	text("budget", have.Budget.String(), want.Budget.String())
	value("lease", time.Duration(have.Lease), time.Duration(want.Lease))
	text("mark", have.Labels[platform.MarkKey], want.Labels[platform.MarkKey])
	if len(out) == 0 && encode(have) != encode(want) {
		out = append(out, "labels are others")
	}
	return strings.Join(out, "; ")
}

// command is what a person would type on the agent's host for the same copies.
func command(s *tapspec.Spec) string {
	args := []string{"crosstap tap"}
	add := func(flag, value string) {
		if value != "" {
			args = append(args, flag+" "+quote(value))
		}
	}
	for _, i := range s.Source.Interfaces {
		add("-i", i)
	}
	if s.Source.IngressOnly {
		args = append(args, "--ingress-only")
	}
	if s.Source.NoPromisc {
		args = append(args, "--no-promisc")
	}
	if s.Source.Snap > 0 {
		add("--snap", fmt.Sprint(s.Source.Snap))
	}
	add("-f", s.Filter)
	add("--groom", string(s.Groom))
	if !s.Budget.IsZero() {
		add("--budget", s.Budget.String())
	}
	for _, t := range s.To {
		add("--to", t.Destination())
	}
	return strings.Join(args, " ")
}

// quote quotes a word for a shell.
func quote(s string) string {
	if s != "" && strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=,@", r))
	}) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
