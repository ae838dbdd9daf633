package answer

import (
	"bufio"
	"fmt"
	"hash/fnv"
	"html"
	"io"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"crosstap/internal/collect/report"
)

// Picture writes a map as a drawing ("svg", "dot", "mermaid"), or an allow list as rules ("nft").
func Picture(w io.Writer, v any, format string) error {
	out := bufio.NewWriter(w)
	switch doc := v.(type) {
	case report.Map:
		picture(out, &doc, format)
	case *report.Map:
		picture(out, doc, format)
	case report.AllowList:
		nft(out, &doc)
	case *report.AllowList:
		nft(out, doc)
	default:
		return fmt.Errorf("a %T has no form %q", v, format)
	}
	return out.Flush()
}

func picture(w io.Writer, m *report.Map, format string) {
	switch format {
	case "svg":
		svg(w, m)
	case "dot":
		dot(w, m)
	default:
		mermaid(w, m)
	}
}

// palette are colours that colour-blind people tell apart (Okabe and Ito); a tenant keeps its colour on every page.
var palette = []string{"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c7b00", "#5b5b5b"}

func colour(n *report.MapNode) string {
	if n.Kind == "outside" || len(n.Group) == 0 || n.Group[0] == "~" {
		return "#808080"
	}
	h := fnv.New32a()
	_, _ = io.WriteString(h, n.Group[0]) // never fails
	return palette[h.Sum32()%uint32(len(palette))]
}

// stroke is how an edge of a state looks.
func stroke(e *report.MapEdge) (hue, dash string) {
	hue = map[string]string{"active": "#4d4d4d", "idle": "#b0b0b0", "new": "#009e73", "gone": "#d55e00"}[e.State]
	switch {
	case e.State == "gone":
		dash = "2 4"
	case e.CrossTenant:
		dash = "7 4"
	}
	return hue, dash
}

// Half the size of a box.
const halfWidth, halfHeight = 90, 22

func svg(w io.Writer, m *report.Map) {
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d" font-family="sans-serif" font-size="12" role="img">`+"\n", m.Width, m.Height)
	title := caption(m)
	fmt.Fprintf(w, "<title>%[1]s</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n<text x=\"30\" y=\"24\" fill=\"#333\">%[1]s</text>\n", text(title))
	nodes := map[string]*report.MapNode{}
	for i := range m.Nodes {
		nodes[m.Nodes[i].ID] = &m.Nodes[i]
	}
	for i := len(m.Edges) - 1; i >= 0; i-- { // the greatest on top
		svgEdge(w, &m.Edges[i], nodes[m.Edges[i].Src], nodes[m.Edges[i].Dst])
	}
	for i := range m.Nodes {
		svgNode(w, &m.Nodes[i])
	}
	fmt.Fprintln(w, "</svg>")
}

func svgEdge(w io.Writer, e *report.MapEdge, a, b *report.MapNode) {
	if a == nil || b == nil {
		return
	}
	hue, dash := stroke(e)
	width := 1 + math.Log10(float64(e.Octets+e.OctetsBefore)+1)/2
	x1, x2, bend := a.X+halfWidth, b.X-halfWidth, 55
	path := fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x1, a.Y, x1+bend, a.Y, x2-bend, b.Y, x2, b.Y)
	switch {
	case a == b:
		path = fmt.Sprintf("M%d %dc45 -30 45 30 0 14", x1, a.Y-7)
	case a.X >= b.X: // back to an earlier layer, below the boxes
		y := max(a.Y, b.Y) + halfHeight + 14
		path = fmt.Sprintf("M%d %dC%d %d %d %d %d %d", a.X-halfWidth/2, a.Y+halfHeight, a.X-halfWidth/2, y, b.X+halfWidth/2, y, b.X+halfWidth/2, b.Y+halfHeight)
	}
	fmt.Fprintf(w, `<path d="%s" fill="none" stroke="%s" stroke-width="%.1f"`, path, hue, width)
	if dash != "" {
		fmt.Fprintf(w, ` stroke-dasharray="%s"`, dash)
	}
	fmt.Fprintf(w, "><title>%s</title></path>\n", text(edgeText(e, a.Label, b.Label)))
}

func svgNode(w io.Writer, n *report.MapNode) {
	label := n.Label
	if r := []rune(label); len(r) > 24 {
		label = string(r[:23]) + "…"
	}
	fmt.Fprintf(w, `<g><title>%s</title><rect x="%d" y="%d" width="%d" height="%d" rx="6" fill="#fff" stroke="%s" stroke-width="2"/>`, text(n.Label), n.X-halfWidth, n.Y-halfHeight, 2*halfWidth, 2*halfHeight, colour(n))
	fmt.Fprintf(w, `<text x="%[1]d" y="%[2]d" text-anchor="middle" fill="#111">%[3]s</text><text x="%[1]d" y="%[4]d" text-anchor="middle" fill="#555" font-size="10">%[5]s</text></g>`+"\n",
		n.X, n.Y-3, text(label), n.Y+13, text(nodeText(n)))
}

func nodeText(n *report.MapNode) string {
	if n.Kind == "member" {
		return Bytes(n.Octets)
	}
	return Plural(n.Members, "member") + " · " + Bytes(n.Octets)
}

// caption says what is drawn, and what is not.
func caption(m *report.Map) string {
	s := fmt.Sprintf("%s to %s by %s", m.Meta.Since.UTC().Format(time.RFC3339), m.Meta.Until.UTC().Format(time.RFC3339), strings.Join(m.By, ", "))
	if m.Meta.Filter != "" {
		s += " · " + m.Meta.Filter
	}
	if m.BaseSince != nil && m.BaseUntil != nil {
		s += fmt.Sprintf(" · compared with %s to %s", m.BaseSince.UTC().Format(time.RFC3339), m.BaseUntil.UTC().Format(time.RFC3339))
	}
	if h := m.Hidden; h.Edges > 0 {
		s += fmt.Sprintf(" · %s hidden (%s, %d between tenants)", Plural(h.Edges, "edge"), Bytes(h.Octets), h.CrossTenant)
	}
	if r := m.Meta.Completeness.Ratio; r != nil && *r < 1 {
		s += " · export loss " + Percent(1-*r)
	}
	return s
}

func edgeText(e *report.MapEdge, src, dst string) string {
	return fmt.Sprintf("%s → %s: %s, %s, %s", src, dst, Bytes(e.Octets), services(e, 5), e.State)
}

// services lists the first services of an edge.
func services(e *report.MapEdge, n int) string {
	var out []string
	for _, s := range e.Services[:min(n, len(e.Services))] {
		out = append(out, serviceName(&s))
	}
	if more := int(e.ServicesTotal) - len(out); more > 0 {
		out = append(out, "+"+strconv.Itoa(more))
	}
	return strings.Join(out, " ")
}

func serviceName(s *report.MapService) string {
	if s.App != "" {
		return s.App
	}
	if s.Port == 0 {
		return s.Proto
	}
	return s.Proto + "/" + strconv.Itoa(int(s.Port))
}

// text escapes for XML and leaves control characters out.
func text(s string) string { return html.EscapeString(strings.Map(printable, s)) }

func dot(w io.Writer, m *report.Map) {
	q := func(s string) string {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(strings.Map(printable, s)) + `"`
	}
	fmt.Fprintf(w, "digraph crosstap {\n  rankdir=LR; node [shape=box, style=rounded, fontname=\"sans-serif\"]; label=%s;\n", q(caption(m)))
	for i := range m.Nodes {
		n := &m.Nodes[i]
		fmt.Fprintf(w, "  %s [label=%s, color=%s];\n", q(n.ID), q(n.Label+" ("+nodeText(n)+")"), q(colour(n)))
	}
	for i := range m.Edges {
		e := &m.Edges[i]
		hue, dash := stroke(e)
		style := "solid"
		if dash != "" {
			style = "dashed"
		}
		fmt.Fprintf(w, "  %s -> %s [label=%s, color=%s, style=%s];\n", q(e.Src), q(e.Dst), q(services(e, 3)+" "+Bytes(e.Octets)), q(hue), style)
	}
	fmt.Fprintln(w, "}")
}

func mermaid(w io.Writer, m *report.Map) {
	q := func(s string) string {
		return strings.NewReplacer("&", "#amp;", `"`, "#quot;", "<", "#lt;", ">", "#gt;", "`", "#96;").Replace(strings.Map(printable, s))
	}
	fmt.Fprintf(w, "%%%% %s\nflowchart LR\n", strings.Map(printable, caption(m)))
	index := map[string]int{}
	for i := range m.Nodes {
		index[m.Nodes[i].ID] = i
		fmt.Fprintf(w, "  n%d[\"%s\"]\n", i, q(m.Nodes[i].Label+" ("+nodeText(&m.Nodes[i])+")"))
	}
	for i := range m.Edges {
		e := &m.Edges[i]
		arrow := "-->"
		if _, dash := stroke(e); dash != "" {
			arrow = "-.->"
		}
		fmt.Fprintf(w, "  n%d %s|\"%s\"| n%d\n", index[e.Src], arrow, q(services(e, 3)+" "+Bytes(e.Octets)), index[e.Dst])
	}
}

// nft writes a rule set: a table for each segment, a rule for each server, family and port, with its clients. It is a start
// to read and to test, for the forward hook; the policy is to drop what was never seen.
func nft(w io.Writer, l *report.AllowList) {
	fmt.Fprintf(w, "#!/usr/sbin/nft -f\n# seen %s to %s; filter: %s; rules from %d of %d connections\n", stamp(l.Meta.Since), stamp(l.Meta.Until), strings.Map(oneLine, orNone(l.Meta.Filter)), len(l.Rows), l.Meta.Total.Rows)
	if r := l.Meta.Completeness.Ratio; r != nil && *r < 1 {
		fmt.Fprintf(w, "# export loss %s: connections may be missing\n", Percent(1-*r))
	}
	tables := map[string][]*report.AllowRow{}
	var order []string
	for i := range l.Rows {
		name := tableName(&l.Rows[i])
		if tables[name] == nil {
			order = append(order, name)
		}
		tables[name] = append(tables[name], &l.Rows[i])
	}
	slices.Sort(order)
	for _, name := range order {
		fmt.Fprintf(w, "\ntable inet %s {\n\tchain forward {\n\t\ttype filter hook forward priority filter; policy drop;\n\t\tct state established,related accept\n", name)
		nftRules(w, tables[name])
		fmt.Fprint(w, "\t}\n}\n")
	}
}

// tableName is a name that nftables takes.
func tableName(r *report.AllowRow) string {
	return "crosstap_" + strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			return c
		}
		return '_'
	}, r.Fabric+"_"+orNone(r.Segment))
}

func nftRules(w io.Writer, rows []*report.AllowRow) {
	type rule struct {
		match   string
		comment string
		clients []string
	}
	rules := map[string]*rule{}
	var order []string
	for _, r := range rows {
		dst, err := netip.ParseAddr(r.DstAddr)
		if err != nil {
			continue // no IP: ARP and the like pass no forward hook
		}
		if _, err := netip.ParseAddr(r.SrcAddr); err != nil {
			continue // from the unspecified address, as when IPv6 looks for duplicates: it is never forwarded (RFC 4291, section 2.5.2)
		}
		family := map[bool]string{true: "ip", false: "ip6"}[dst.Is4()]
		match := fmt.Sprintf("%s daddr %s %s", family, r.DstAddr, nftProto(r))
		if rules[match] == nil {
			rules[match] = &rule{match: match, comment: strings.TrimSpace(r.DstVM + " " + r.App)}
			order = append(order, match)
		}
		if one := family + " saddr " + r.SrcAddr; !slices.Contains(rules[match].clients, one) {
			rules[match].clients = append(rules[match].clients, one)
		}
	}
	slices.Sort(order)
	for _, key := range order {
		r := rules[key]
		slices.Sort(r.clients)
		family, _, _ := strings.Cut(r.clients[0], " ")
		var addrs []string
		for _, c := range r.clients {
			addrs = append(addrs, c[strings.LastIndexByte(c, ' ')+1:])
		}
		fmt.Fprintf(w, "\t\t%s saddr { %s } %s accept", family, strings.Join(addrs, ", "), r.match)
		if r.comment != "" {
			fmt.Fprintf(w, " comment \"%s\"", strings.Map(nftText, r.comment))
		}
		fmt.Fprintln(w)
	}
}

// nftText keeps what may stand in a comment.
func nftText(r rune) rune {
	if r == '"' || r == '\\' || printable(r) == '?' {
		return '_'
	}
	return r
}

func nftProto(r *report.AllowRow) string {
	switch r.Proto {
	case "tcp", "udp", "sctp":
		return fmt.Sprintf("%s dport %d", r.Proto, r.Port)
	case "icmp6":
		return "meta l4proto ipv6-icmp"
	}
	return "meta l4proto " + r.Proto
}
