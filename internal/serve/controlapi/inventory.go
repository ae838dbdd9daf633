package controlapi

import (
	"net/http"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
	"crosstap/internal/flow"
)

// Inventory is what the platforms have.
type Inventory struct {
	Platforms []Platform `json:"platforms"`
}

// Platform is the inventory of one platform.
type Platform struct {
	Name     string            `json:"name"`
	At       time.Time         `json:"at"`
	Error    string            `json:"error,omitempty"` // it does not answer: what is here may be old
	Hosts    []Host            `json:"hosts"`
	Switches []platform.Switch `json:"switches"`
	VMs      []platform.VM     `json:"vms"`
	Ports    []Port            `json:"ports"`
	Objects  []platform.Object `json:"objects"`
}

// Host is a host with addresses as text.
type Host struct {
	platform.Host
	VTEPs []string `json:"vteps,omitempty"`
	Addrs []string `json:"addrs,omitempty"`
}

// Port is a port with addresses and its segment as text.
type Port struct {
	platform.Port
	MAC     string   `json:"mac,omitempty"`
	Addrs   []string `json:"addrs,omitempty"`
	Segment string   `json:"segment,omitempty"`
	VMName  string   `json:"vm_name,omitempty"`
}

func texts(addrs []flow.Addr) (out []string) {
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return out
}

func (a *API) inventory(r *http.Request) (any, error) {
	list, err := a.cfg.Line.Inventory(r.Context())
	if err != nil {
		return nil, err
	}
	want := r.URL.Query().Get("platform")
	doc := Inventory{Platforms: []Platform{}}
	for _, s := range list {
		if want == "" || want == s.Platform {
			doc.Platforms = append(doc.Platforms, view(s))
		}
	}
	return doc, nil
}

func view(s *platform.Snapshot) Platform {
	p := Platform{
		Name: s.Platform, At: time.Unix(0, s.AtNS).UTC(), Hosts: []Host{}, Switches: []platform.Switch{}, VMs: []platform.VM{}, Ports: []Port{}, Objects: []platform.Object{},
	}
	if s.Lost != nil {
		p.Error = s.Lost.Error()
	}
	for _, h := range platform.Sorted(s.Hosts) {
		p.Hosts = append(p.Hosts, Host{*h, texts(h.VTEPs), texts(h.Addrs)})
	}
	for _, sw := range platform.Sorted(s.Switches) {
		p.Switches = append(p.Switches, *sw)
	}
	for _, vm := range platform.Sorted(s.VMs) {
		p.VMs = append(p.VMs, *vm)
	}
	for _, port := range platform.Sorted(s.Ports) {
		one := Port{Port: *port, MAC: port.MAC.String(), Addrs: texts(port.Addrs), Segment: policy.SegmentText(port.Segment)}
		if vm := s.VMs[port.VM]; vm != nil {
			one.VMName = vm.Name
		}
		p.Ports = append(p.Ports, one)
	}
	for _, o := range platform.Sorted(s.Objects) {
		p.Objects = append(p.Objects, *o)
	}
	return p
}
