//go:build !agent

package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"crosstap/internal/answer"
	"crosstap/internal/control/platform"
	"crosstap/internal/serve/controlapi"

	"github.com/spf13/cobra"
)

// recordPage is what there is to say of one record of an inventory.
type recordPage struct {
	title string
	lines [][2]string
	doc   any // as the platform has told it
}

func (p *recordPage) add(name string, words ...string) {
	if text := strings.Join(slices.DeleteFunc(slices.Clone(words), func(w string) bool { return w == "" }), ", "); text != "" {
		p.lines = append(p.lines, [2]string{name, text})
	}
}

func (p *recordPage) print(w io.Writer) {
	fmt.Fprintln(w, p.title)
	for _, l := range p.lines {
		fmt.Fprintf(w, "  %-14s %s\n", l[0], l[1])
	}
}

// describedKinds are the kinds of platforms' records that have a page.
var describedKinds = []string{"platforms", "hosts", "switches", "ports", "mirrors"}

// describedWords are the words for one of them.
var describedWords = []string{"platform", "host", "switch", "port", "mirror"}

// describeOfPlatforms shows what the server's platforms have told of one host, switch, port, mirror or platform; of all that have the name.
func describeOfPlatforms(cmd *cobra.Command, src *source, l *look, kind, name string) error {
	if err := l.check(); err != nil {
		return err
	}
	inv, err := inventoryOf(cmd, src, nil)
	if err != nil {
		return err
	}
	var pages []recordPage
	var names []string
	for i := range inv.Platforms {
		d := describer{Platform: &inv.Platforms[i], hosts: hostNames(&inv.Platforms[i]), name: name}
		pages, names = append(pages, d.pages(kind)...), append(names, d.names...)
	}
	if len(pages) == 0 {
		return notThere("describe", describedWords[slices.Index(describedKinds, kind)], name, names)
	}
	if l.output == "json" || l.output == "yaml" {
		return printPages(cmd, l, pages)
	}
	for i := range pages {
		if i > 0 {
			fmt.Fprintln(cmd.OutOrStdout())
		}
		pages[i].print(cmd.OutOrStdout())
	}
	return nil
}

func printPages(cmd *cobra.Command, l *look, pages []recordPage) error {
	doc := gotRows[any]{}
	for _, p := range pages {
		doc.Rows = append(doc.Rows, p.doc)
	}
	body, err := json.MarshalIndent(&doc, "", "  ")
	switch {
	case err != nil:
		return err
	case l.output == "yaml":
		return answer.YAML(cmd.OutOrStdout(), body)
	}
	_, err = cmd.OutOrStdout().Write(append(body, '\n'))
	return err
}

// describer makes the pages of one platform.
type describer struct {
	*controlapi.Platform
	hosts map[string]string
	name  string   // asked for
	names []string // of all of the kind
}

// is reports whether a record is asked for, by any of its names.
func (d *describer) is(names ...string) bool {
	d.names = append(d.names, names[0])
	return slices.Contains(names, d.name)
}

func (d *describer) pages(kind string) (out []recordPage) {
	switch kind {
	case "platforms":
		if d.is(d.Name) {
			out = append(out, d.platform())
		}
	case "hosts":
		for i := range d.Hosts {
			if h := &d.Hosts[i]; d.is(h.Name, h.ID) {
				out = append(out, d.host(h))
			}
		}
	case "switches":
		for i := range d.Switches {
			if s := &d.Switches[i]; d.is(s.Name, s.ID) {
				out = append(out, d.sw(s))
			}
		}
	case "ports":
		for i := range d.Ports {
			if p := &d.Ports[i]; d.is(p.Name, p.ID, p.MAC) {
				out = append(out, d.port(p))
			}
		}
	case "mirrors":
		for i := range d.Objects {
			if o := &d.Objects[i]; d.is(o.Name, o.ID, o.Mark.Policy) {
				out = append(out, d.object(o))
			}
		}
	}
	return out
}

func (d *describer) platform() recordPage {
	p := recordPage{title: "platform " + d.Name, doc: d.Platform}
	p.add("Told", d.At.Local().Format(time.RFC3339))
	p.add("Error", d.Error)
	p.add("Hosts", d.list(len(d.Hosts), func(i int) string { return d.Hosts[i].Name }))
	p.add("Switches", d.list(len(d.Switches), func(i int) string { return d.Switches[i].Name }))
	p.add("Machines", d.list(len(d.VMs), func(i int) string { return d.VMs[i].Name }))
	kinds := map[string]int{}
	for _, x := range d.Ports {
		kinds[string(x.Kind)]++
	}
	p.add("Ports", counted(kinds))
	objects := map[string]int{}
	for _, o := range d.Objects {
		objects[cmp.Or(o.Mark.Owner, "foreign")]++
	}
	p.add("Objects", counted(objects))
	return p
}

// list names the first of some records, and says how many there are.
func (d *describer) list(n int, name func(int) string) string {
	const most = 20
	var out []string
	for i := range min(n, most) {
		out = append(out, name(i))
	}
	if n > most {
		out = append(out, fmt.Sprintf("and %d more", n-most))
	}
	return strings.Join(out, ", ")
}

func counted(n map[string]int) string {
	var out []string
	for _, key := range sorted(n) {
		out = append(out, fmt.Sprintf("%d %s", n[key], key))
	}
	return strings.Join(out, ", ")
}

func pairsOf(m map[string]string) (out []string) {
	for _, key := range sorted(m) {
		out = append(out, key+"="+m[key])
	}
	return out
}

func (d *describer) host(h *controlapi.Host) recordPage {
	p := recordPage{title: "host " + h.Name, doc: h}
	p.add("Platform", d.Name)
	p.add("State", map[bool]string{true: "does not answer", false: "up"}[h.Down])
	p.add("Version", h.Version)
	p.add("Cluster", h.Cluster)
	p.add("Endpoints", h.VTEPs...)
	p.add("Addresses", h.Addrs...)
	p.add("Tags", pairsOf(h.Tags)...)
	for i := range d.Switches {
		if s := &d.Switches[i]; slices.Contains(s.Hosts, h.ID) {
			p.add("Switch", s.Name+" ("+string(s.Kind)+")")
		}
	}
	var vms []string
	for _, v := range d.VMs {
		if v.Host == h.ID {
			vms = append(vms, v.Name)
		}
	}
	p.add("Machines", d.list(len(vms), func(i int) string { return vms[i] }))
	return p
}

// filters are what switches can filter by, for people.
var filters = map[platform.Filter]string{platform.FilterNone: "no filter", platform.FilterTuple: "filters by addresses, protocols, ports, VLANs", platform.FilterFull: "any filter"}

func (d *describer) sw(s *platform.Switch) recordPage {
	p := recordPage{title: "switch " + s.Name, doc: s}
	p.add("Platform", d.Name)
	p.add("Kind", string(s.Kind), s.Type)
	for _, h := range s.Hosts {
		p.add("Host", d.hosts[h])
	}
	if s.Owner != "" {
		p.add("Made by", s.Owner+", for taps")
	}
	if s.MTU > 0 {
		p.add("MTU", fmt.Sprint(s.MTU))
	}
	p.add("Copies by", texts(s.Can.Methods)...)
	p.add("Tunnels", texts(s.Can.Encaps)...)
	can := []string{filters[s.Can.Filter]}
	for _, c := range []struct {
		ok   bool
		text string
	}{{s.Can.Slice, "cuts copies"}, {s.Can.Sample, "samples"}, {s.Can.VLANs, "selects VLANs"}, {s.Can.UplinkSource, "uplinks as sources"}, {s.Can.FromVLAN, "takes from an RSPAN VLAN"}, {s.Can.Follows, "sessions follow machines"}} {
		if c.ok {
			can = append(can, c.text)
		}
	}
	p.add("Can", can...)
	for i := range d.Ports {
		if x := &d.Ports[i]; x.Switch == s.ID {
			p.add("Port", strings.TrimSpace(x.Name+" ("+string(x.Kind)+") "+x.VMName))
		}
	}
	for i := range d.Objects {
		if o := &d.Objects[i]; o.Switch == s.ID {
			p.add("Object", o.Kind+" "+o.Name)
		}
	}
	return p
}

func texts[T ~string](list []T) (out []string) {
	for _, x := range list {
		out = append(out, string(x))
	}
	return out
}

func (d *describer) port(x *controlapi.Port) recordPage {
	p := recordPage{title: "port " + x.Name, doc: x}
	p.add("Platform", d.Name)
	p.add("Host", d.hosts[x.Host])
	for _, s := range d.Switches {
		if s.ID == x.Switch {
			p.add("Switch", s.Name)
		}
	}
	p.add("Kind", string(x.Kind), map[bool]string{true: "up", false: "down"}[x.Up], map[bool]string{true: "gets what is not for it"}[x.Promisc])
	p.add("Machine", strings.TrimSpace(x.VMName+" "+x.NIC))
	p.add("Group", x.Group)
	p.add("Segment", x.Segment)
	if x.VLAN > 0 {
		p.add("VLAN", fmt.Sprint(x.VLAN))
	}
	for _, v := range x.Trunk {
		p.add("Trunk", fmt.Sprint(v))
	}
	p.add("MAC", x.MAC)
	p.add("Addresses", x.Addrs...)
	if x.RxBytes+x.TxBytes > 0 {
		p.add("Bytes", answer.Bytes(x.RxBytes)+" into the switch", answer.Bytes(x.TxBytes)+" out of it")
	}
	if x.Port.Owner != "" {
		p.add("Made by", x.Port.Owner+", for taps")
	}
	p.add("Tags", pairsOf(x.Tags)...)
	p.add("Platform has", pairsOf(x.Raw)...)
	for i := range d.Objects {
		o := &d.Objects[i]
		for _, s := range o.Sources {
			if s.Port == x.ID {
				p.add("Copied", s.Dir.String()+" by "+o.Kind+" "+o.Name+ofTap(o))
			}
		}
		if slices.Contains(o.Outputs, x.ID) {
			p.add("Carries", "copies of "+o.Kind+" "+o.Name+ofTap(o))
		}
	}
	return p
}

// ofTap says whose an object is.
func ofTap(o *platform.Object) string {
	switch {
	case o.Mark.Owner == "":
		return " (foreign)"
	case o.Mark.Policy == "" || o.Mark.Policy == platform.Shared:
		return " (shared by taps)"
	}
	return " (tap " + o.Mark.Policy + ")"
}

func (d *describer) object(o *platform.Object) recordPage {
	p := recordPage{title: o.Kind + " " + o.Name, doc: o}
	ports := map[string]string{}
	for i := range d.Ports {
		ports[d.Ports[i].ID] = strings.TrimSpace(d.Ports[i].Name + " " + d.Ports[i].VMName)
	}
	p.add("Platform", d.Name)
	p.add("Host", d.hosts[o.Host])
	p.add("Whose", strings.Trim(ofTap(o), " ()"), o.Mark.Owner)
	if o.Mark.ExpiresS > 0 {
		p.add("Ends", time.Unix(o.Mark.ExpiresS, 0).Local().Format(time.RFC3339))
	}
	p.add("About", o.About)
	for _, s := range o.Sources {
		p.add("Copies", cmp.Or(ports[s.Port], s.Port)+", "+s.Dir.String())
	}
	for _, out := range o.Outputs {
		p.add("To", cmp.Or(ports[out], out))
	}
	p.add("Far end", o.Remote)
	for _, key := range sorted(o.Raw) {
		p.add("Platform has", key+": "+o.Raw[key])
	}
	return p
}
