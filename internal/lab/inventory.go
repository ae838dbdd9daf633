package lab

import (
	"fmt"

	"github.com/goccy/go-yaml"
)

// The inventory file, as identity.Load reads it.
type (
	inventory struct {
		APIVersion string        `yaml:"apiVersion"`
		Kind       string        `yaml:"kind"`
		Hosts      []invHost     `yaml:"hosts"`
		Tenants    []invTenant   `yaml:"tenants"`
		VMs        []invVM       `yaml:"vms"`
		Observers  []invObserver `yaml:"observers"`
	}
	invHost struct {
		Name  string   `yaml:"name"`
		VTEPs []string `yaml:"vteps"`
	}
	invTenant struct {
		Name     string   `yaml:"name"`
		Segments []string `yaml:"segments"`
	}
	invVM struct {
		Name string   `yaml:"name"`
		ID   string   `yaml:"id"`
		NICs []invNIC `yaml:"nics"`
	}
	invNIC struct {
		MAC     string   `yaml:"mac"`
		Addrs   []string `yaml:"addrs"`
		Host    string   `yaml:"host"`
		Port    string   `yaml:"port"`
		Segment string   `yaml:"segment"`
	}
	invObserver struct {
		Name     string `yaml:"name"`
		Role     string `yaml:"role"`
		Host     string `yaml:"host"`
		Exporter string `yaml:"exporter"`
		Domain   uint32 `yaml:"domain"`
	}
)

// Inventory returns the topology as an inventory file: what a cloud's API would tell.
func (t *Topology) Inventory() ([]byte, error) {
	inv := inventory{APIVersion: "crosstap/v1", Kind: "Inventory"}
	for _, h := range t.Hosts {
		inv.Hosts = append(inv.Hosts, invHost{Name: h.Name, VTEPs: []string{h.VTEP.String()}})
	}
	for _, n := range t.Tenants {
		inv.Tenants = append(inv.Tenants, invTenant{Name: n.Name, Segments: []string{segment(n.VNI)}})
	}
	for _, v := range t.VMs {
		nic := invNIC{MAC: v.MAC, Addrs: []string{v.Addr4.String()}, Host: v.Host, Port: v.Port, Segment: segment(t.VNI(v.Tenant))}
		if t.IPv6 {
			nic.Addrs = append(nic.Addrs, v.Addr6.String())
		}
		inv.VMs = append(inv.VMs, invVM{Name: v.Name, ID: v.ID, NICs: []invNIC{nic}})
	}
	for _, o := range t.Observers {
		inv.Observers = append(inv.Observers, invObserver{Name: o.Name, Role: o.Role, Host: o.Host, Exporter: o.Exporter.String(), Domain: o.Domain})
	}
	b, err := yaml.Marshal(inv)
	if err != nil {
		return nil, fmt.Errorf("lab: inventory: %w", err)
	}
	return b, nil
}

func segment(vni uint32) string { return fmt.Sprintf("vxlan:%d", vni) }
