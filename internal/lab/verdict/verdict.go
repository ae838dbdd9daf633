package verdict

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"crosstap/internal/collect/report"
	"crosstap/internal/lab"
	"crosstap/internal/lab/truth"
	"crosstap/internal/lab/vm"
)

// Verdict is the outcome of a comparison.
type Verdict struct {
	Sent     truth.Flows
	Differs  []truth.Difference // directions that are missing, extra, or not equal to the last packet and byte
	Findings []string           // all else that is not as it must be
}

// OK reports whether everything shown is as it was sent.
func (v *Verdict) OK() bool { return len(v.Differs) == 0 && len(v.Findings) == 0 }

// Judge compares what is shown with what was sent, direction by direction, and looks at what each
// row says of its observers. A direction shown under another segment than its own is extra there and
// missing here, so tenants that merge are always found.
func Judge(t *lab.Topology, sent truth.Flows, pairs []report.Pair, conversations []report.Conversation) (Verdict, error) {
	shown, err := Shown(conversations)
	if err != nil {
		return Verdict{}, err
	}
	v := Verdict{Sent: sent, Differs: truth.Compare(sent, shown)}
	if len(sent) == 0 {
		v.Findings = append(v.Findings, "the VMs sent nothing: there is nothing to compare")
	}
	v.Findings = append(v.Findings, pairsDiffer(pairs, conversations)...)
	v.Findings = append(v.Findings, split(conversations)...)
	for i := range conversations {
		v.Findings = append(v.Findings, attributes(t, &conversations[i])...)
	}
	return v, nil
}

// split returns a line for each TCP or UDP conversation whose two directions are shown apart.
func split(conversations []report.Conversation) []string {
	var found []string
	seen := map[truth.Key]bool{}
	for i := range conversations {
		k, ok, err := key(&conversations[i])
		if err != nil || !ok || k.SrcPort == 0 {
			continue
		}
		back := k
		back.Src, back.Dst, back.SrcPort, back.DstPort = k.Dst, k.Src, k.DstPort, k.SrcPort
		if seen[k] || seen[back] {
			found = append(found, k.String()+": one conversation in more than one row")
		}
		seen[k] = true
	}
	return found
}

// attributes checks what a row says beside its figures: the VMs, who opened it, the hosts' VTEPs, and the observers. All that
// pass its packets must be listed, and their copies must be known as duplicates.
func attributes(t *lab.Topology, r *report.Conversation) []string {
	src, err1 := netip.ParseAddr(r.SrcAddr)
	dst, err2 := netip.ParseAddr(r.DstAddr)
	if err1 != nil || err2 != nil || dst.IsLinkLocalMulticast() {
		return nil
	}
	a, b := t.ByAddr(r.VNI, src), t.ByAddr(r.VNI, dst)
	if a == nil || b == nil {
		return nil // an extra direction already
	}
	var found []string
	check := func(what, got, want string) {
		if got != want {
			found = append(found, fmt.Sprintf("%d %s %s > %s: %s is %q, want %q", r.VNI, r.Proto, a.Name, b.Name, what, got, want))
		}
	}
	want := t.SeenBy(a, b)
	check("tenant", r.Tenant, a.Tenant)
	check("source VM", r.SrcVM, a.Name)
	check("destination VM", r.DstVM, b.Name)
	check("source VTEP", r.SrcVTEP, vtep(t, a, b))
	check("destination VTEP", r.DstVTEP, vtep(t, b, a))
	check("opened by the client", strconv.FormatBool(r.SrcPort == 0 || vm.Opens(r.SrcPort, r.DstPort)), "true")
	check("same host", strconv.FormatBool(r.SameHost), strconv.FormatBool(a.Host == b.Host))
	check("seen by", strings.Join(slices.Sorted(slices.Values(r.SeenBy)), ", "), strings.Join(slices.Sorted(slices.Values(want)), ", "))
	check("duplicates", fmt.Sprint(r.Duplicates), fmt.Sprint(r.Packets*uint64(len(want)-1)))
	return found
}

// vtep returns the tunnel endpoint of a's host; none where a and b share the host, and no tunnel is between them.
func vtep(t *lab.Topology, a, b *lab.VM) string {
	if a.Host == b.Host {
		return ""
	}
	return t.Host(a.Host).VTEP.String()
}

// Print writes the differences as a table, the findings below.
func (v *Verdict) Print(w io.Writer) error {
	if len(v.Differs) > 0 {
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(tw, "VNI\tPROTO\tSOURCE\tDESTINATION\tPACKETS SENT\tSHOWN\tBYTES SENT\tSHOWN\tDIFFERENCE")
		for _, d := range v.Differs {
			fmt.Fprintf(tw, "%d\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\n", d.Key.VNI, d.Key.ProtoName(), d.Key.Source(), d.Key.Destination(),
				d.Sent.Packets, d.Got.Packets, d.Sent.Octets, d.Got.Octets, kind(d))
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	for _, f := range v.Findings {
		if _, err := fmt.Fprintln(w, f); err != nil {
			return err
		}
	}
	return nil
}

func kind(d truth.Difference) string {
	switch {
	case d.Got == truth.Count{}:
		return "missing"
	case d.Sent == truth.Count{}:
		return "extra"
	}
	return fmt.Sprintf("%+d packets, %+d bytes", int64(d.Got.Packets)-int64(d.Sent.Packets), int64(d.Got.Octets)-int64(d.Sent.Octets))
}
