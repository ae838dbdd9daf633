//go:build !agent

package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/obs"
	"crosstap/internal/serve/controlapi"

	"github.com/spf13/cobra"
)

// Lines of get for what platforms have. Lists are joined by commas.
type (
	gotVM struct {
		Platform string   `json:"platform"`
		Name     string   `json:"name"`
		ID       string   `json:"id"`
		Host     string   `json:"host"`
		State    string   `json:"state"`
		Tenant   string   `json:"tenant"`
		Folder   string   `json:"folder"`
		Ports    []string `json:"ports"`
		MACs     []string `json:"macs"`
		Addrs    []string `json:"addrs"`
		Segments []string `json:"segments"`
	}
	gotHost struct {
		Platform string   `json:"platform"`
		Name     string   `json:"name"`
		State    string   `json:"state"`
		Version  string   `json:"version"`
		VTEPs    []string `json:"vteps"`
		Addrs    []string `json:"addrs"`
		Switches int      `json:"switches"`
		VMs      int      `json:"vms"`
	}
	gotSwitch struct {
		Platform string   `json:"platform"`
		Name     string   `json:"name"`
		Kind     string   `json:"kind"`
		Hosts    []string `json:"hosts"`
		MTU      int      `json:"mtu"`
		Ports    int      `json:"ports"`
		Methods  []string `json:"methods"`
		Encaps   []string `json:"encaps"`
		Owner    string   `json:"owner"`
	}
	gotPort struct {
		Platform string   `json:"platform"`
		Host     string   `json:"host"`
		Switch   string   `json:"switch"`
		Name     string   `json:"name"`
		Kind     string   `json:"kind"`
		Up       bool     `json:"up"`
		VM       string   `json:"vm"`
		NIC      string   `json:"nic"`
		MAC      string   `json:"mac"`
		Addrs    []string `json:"addrs"`
		Segment  string   `json:"segment"`
		VLAN     uint16   `json:"vlan"`
		Group    string   `json:"group"`
		Owner    string   `json:"owner"`
	}
	gotMirror struct {
		Platform string   `json:"platform"`
		Host     string   `json:"host"`
		Kind     string   `json:"kind"`
		Name     string   `json:"name"`
		Tap      string   `json:"tap"` // "" for a foreign one
		Owner    string   `json:"owner"`
		Sources  []string `json:"sources"`
		Outputs  []string `json:"outputs"`
		Remote   string   `json:"remote"`
		About    string   `json:"about"`
	}
	gotPlatform struct {
		Name     string    `json:"name"`
		At       time.Time `json:"at"`
		Hosts    int       `json:"hosts"`
		Switches int       `json:"switches"`
		VMs      int       `json:"vms"`
		Ports    int       `json:"ports"`
		Mirrors  int       `json:"mirrors"`
		Error    string    `json:"error"`
	}
)

// gotRows is the document of one kind.
type gotRows[T any] struct {
	Rows []T `json:"rows"`
}

// platformKinds are what only platforms know; vms and hosts, which flows know too, are asked of platforms with --platform.
var platformKinds = []string{"switches", "ports", "mirrors", "platforms"}

var platformAliases = map[string]string{"switch": "switches", "port": "ports", "mirror": "mirrors", "platform": "platforms", "vm": "vms", "host": "hosts"}

// ofPlatforms reports whether a kind is asked of platforms, and its usual word.
func ofPlatforms(kind string, platforms []string) (string, bool) {
	if k, ok := platformAliases[kind]; ok {
		kind = k
	}
	return kind, slices.Contains(platformKinds, kind) || len(platforms) > 0 && (kind == "vms" || kind == "hosts")
}

// getOfPlatforms lists what platforms have: those of --platform, read now, else those of the server.
func getOfPlatforms(cmd *cobra.Command, src *source, l *look, platforms []string, kind, name string) error {
	if err := l.check(); err != nil {
		return err
	}
	inv, err := inventoryOf(cmd, src, platforms)
	if err != nil {
		return err
	}
	var failed []string
	for _, p := range inv.Platforms {
		if p.Error != "" {
			failed = append(failed, p.Name)
			fmt.Fprintf(cmd.ErrOrStderr(), "platform %s does not answer: %s\n", p.Name, p.Error)
		}
	}
	if len(inv.Platforms) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "no platform is known; name one: --platform linux=, or apply a Platform resource to the server")
	}
	if err := printKind(cmd, l, &inv, kind, name); err != nil {
		return err
	}
	if len(failed) > 0 && kind != "platforms" {
		return exit(exitNoServer, fmt.Errorf("get %s: no answer from %s", kind, strings.Join(failed, ", ")))
	}
	return nil
}

func inventoryOf(cmd *cobra.Command, src *source, platforms []string) (inv controlapi.Inventory, err error) {
	if len(platforms) > 0 {
		files, err := platformFiles(platforms)
		if err != nil {
			return inv, err
		}
		if inv, err = controlapi.ReadInventory(cmd.Context(), files, obs.Logger(cmd.ErrOrStderr(), false)); err != nil {
			return inv, exit(exitUsage, err)
		}
		return inv, nil
	}
	if src.data != "" {
		return inv, usagef("get: --data has flows alone; platforms are asked for with --platform, or by a server")
	}
	c, done, err := src.open(cmd.Context())
	if err != nil {
		return inv, err
	}
	defer func() { _ = done() }() // only read
	body, err := src.get(cmd.Context(), c, "api/v1/control/inventory", url.Values{})
	if err != nil {
		return inv, err
	}
	if err := json.Unmarshal(body, &inv); err != nil {
		return inv, fmt.Errorf("get: answer of %s: %w", c.Server(), err)
	}
	return inv, nil
}

// printKind prints the records of one kind, or the one of a name.
func printKind(cmd *cobra.Command, l *look, inv *controlapi.Inventory, kind, name string) error {
	named := func(words ...string) bool { return name == "" || slices.Contains(words, name) }
	switch kind {
	case "vms":
		return printRows(cmd, l, inv, func(p *controlapi.Platform) []gotVM { return vmRows(p, named) })
	case "hosts":
		return printRows(cmd, l, inv, func(p *controlapi.Platform) []gotHost { return hostRows(p, named) })
	case "switches":
		return printRows(cmd, l, inv, func(p *controlapi.Platform) []gotSwitch { return switchRows(p, named) })
	case "ports":
		return printRows(cmd, l, inv, func(p *controlapi.Platform) []gotPort { return portRows(p, named) })
	case "mirrors":
		return printRows(cmd, l, inv, func(p *controlapi.Platform) []gotMirror { return mirrorRows(p, named) })
	}
	return printRows(cmd, l, inv, func(p *controlapi.Platform) []gotPlatform {
		if !named(p.Name) {
			return nil
		}
		return []gotPlatform{{p.Name, p.At, len(p.Hosts), len(p.Switches), len(p.VMs), len(p.Ports), len(p.Objects), p.Error}}
	})
}

func printRows[T any](cmd *cobra.Command, l *look, inv *controlapi.Inventory, rows func(*controlapi.Platform) []T) error {
	doc := gotRows[T]{Rows: []T{}}
	for i := range inv.Platforms {
		doc.Rows = append(doc.Rows, rows(&inv.Platforms[i])...)
	}
	body, err := json.Marshal(&doc)
	if err != nil {
		return err
	}
	return l.print(cmd.OutOrStdout(), append(body, '\n'), &doc)
}

// hostNames are the names of a platform's hosts by their IDs.
func hostNames(p *controlapi.Platform) map[string]string {
	out := map[string]string{}
	for _, h := range p.Hosts {
		out[h.ID] = h.Name
	}
	return out
}

// add appends words that are not there yet.
func add(list []string, words ...string) []string {
	for _, w := range words {
		if w != "" && !slices.Contains(list, w) {
			list = append(list, w)
		}
	}
	return list
}

func vmRows(p *controlapi.Platform, named func(...string) bool) (out []gotVM) {
	hosts := hostNames(p)
	for _, v := range p.VMs {
		if !named(v.Name, v.ID) {
			continue
		}
		r := gotVM{Platform: p.Name, Name: v.Name, ID: v.ID, Host: hosts[v.Host], State: "on", Tenant: v.Tenant, Folder: v.Folder}
		if v.Off {
			r.State = "off"
		}
		for _, x := range p.Ports {
			if x.Port.VM == v.ID {
				r.Ports, r.MACs, r.Addrs, r.Segments = add(r.Ports, x.Name), add(r.MACs, x.MAC), add(r.Addrs, x.Addrs...), add(r.Segments, x.Segment)
			}
		}
		out = append(out, r)
	}
	return out
}

func hostRows(p *controlapi.Platform, named func(...string) bool) (out []gotHost) {
	for _, h := range p.Hosts {
		if !named(h.Name, h.ID) {
			continue
		}
		r := gotHost{Platform: p.Name, Name: h.Name, State: "up", Version: h.Version, VTEPs: h.VTEPs, Addrs: h.Addrs}
		if h.Down {
			r.State = "down"
		}
		for _, s := range p.Switches {
			if slices.Contains(s.Hosts, h.ID) {
				r.Switches++
			}
		}
		for _, v := range p.VMs {
			if v.Host == h.ID {
				r.VMs++
			}
		}
		out = append(out, r)
	}
	return out
}

func switchRows(p *controlapi.Platform, named func(...string) bool) (out []gotSwitch) {
	hosts := hostNames(p)
	for _, s := range p.Switches {
		if !named(s.Name, s.ID) {
			continue
		}
		r := gotSwitch{Platform: p.Name, Name: s.Name, Kind: string(s.Kind), MTU: s.MTU, Owner: s.Owner}
		for _, h := range s.Hosts {
			r.Hosts = add(r.Hosts, hosts[h])
		}
		for _, m := range s.Can.Methods {
			r.Methods = append(r.Methods, string(m))
		}
		for _, e := range s.Can.Encaps {
			r.Encaps = append(r.Encaps, string(e))
		}
		for _, x := range p.Ports {
			if x.Switch == s.ID {
				r.Ports++
			}
		}
		out = append(out, r)
	}
	return out
}

func portRows(p *controlapi.Platform, named func(...string) bool) (out []gotPort) {
	hosts, switches := hostNames(p), map[string]string{}
	for _, s := range p.Switches {
		switches[s.ID] = s.Name
	}
	for _, x := range p.Ports {
		if !named(x.Name, x.ID, x.VMName, x.MAC) {
			continue
		}
		out = append(out, gotPort{
			p.Name, hosts[x.Host], switches[x.Switch], x.Name, string(x.Kind), x.Up, x.VMName, x.NIC, x.MAC, x.Addrs, x.Segment, x.VLAN, x.Group, x.Owner,
		})
	}
	return out
}

func mirrorRows(p *controlapi.Platform, named func(...string) bool) (out []gotMirror) {
	hosts, ports := hostNames(p), map[string]string{}
	for _, x := range p.Ports {
		ports[x.ID] = x.Name
	}
	names := func(id string) string {
		if n := ports[id]; n != "" {
			return n
		}
		return id
	}
	for _, o := range p.Objects {
		if !named(o.Name, o.ID, o.Mark.Policy) {
			continue
		}
		r := gotMirror{Platform: p.Name, Host: hosts[o.Host], Kind: o.Kind, Name: o.Name, Owner: o.Mark.Owner, Remote: o.Remote, About: o.About}
		if o.Mark.Policy != "" && o.Mark.Policy != platform.Shared {
			r.Tap = o.Mark.Policy
		}
		for _, s := range o.Sources {
			r.Sources = append(r.Sources, names(s.Port)+" "+s.Dir.String())
		}
		for _, id := range o.Outputs {
			r.Outputs = append(r.Outputs, names(id))
		}
		out = append(out, r)
	}
	return out
}
