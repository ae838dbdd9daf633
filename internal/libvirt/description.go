package libvirt

import (
	"encoding/xml"
	"fmt"
	"strings"
)

// Description is what of a domain's XML concerns its place in the network.
type Description struct {
	Name  string `xml:"name"`
	UUID  string `xml:"uuid"`
	Title string `xml:"title"`
	NICs  []NIC  `xml:"devices>interface"`
}

// NIC is one adapter of a domain.
type NIC struct {
	Type string `xml:"type,attr"` // bridge, network, direct, ethernet …
	MAC  struct {
		Address string `xml:"address,attr"`
	} `xml:"mac"`
	Source struct {
		Bridge    string `xml:"bridge,attr"`
		Network   string `xml:"network,attr"`
		PortGroup string `xml:"portgroup,attr"`
		PortID    string `xml:"portid,attr"`
		Dev       string `xml:"dev,attr"`  // of macvtap: the device below
		Mode      string `xml:"mode,attr"` // of macvtap
	} `xml:"source"`
	VirtualPort struct {
		Type       string `xml:"type,attr"` // openvswitch
		Parameters struct {
			InterfaceID string `xml:"interfaceid,attr"`
			ProfileID   string `xml:"profileid,attr"`
		} `xml:"parameters"`
	} `xml:"virtualport"`
	Target struct {
		Dev string `xml:"dev,attr"` // the host's device, such as vnet3, while the domain runs
	} `xml:"target"`
	Model struct {
		Type string `xml:"type,attr"`
	} `xml:"model"`
	VLAN struct {
		Trunk string `xml:"trunk,attr"`
		Tags  []struct {
			ID uint16 `xml:"id,attr"`
		} `xml:"tag"`
	} `xml:"vlan"`
	Alias struct {
		Name string `xml:"name,attr"` // such as net0
	} `xml:"alias"`
	MTU struct {
		Size int `xml:"size,attr"`
	} `xml:"mtu"`
}

// maxNICs bounds the adapters of one domain.
const maxNICs = 1024

// ParseDescription reads the XML of a domain.
func ParseDescription(text string) (*Description, error) {
	var d Description
	if err := xml.Unmarshal([]byte(text), &d); err != nil {
		return nil, fmt.Errorf("libvirt: domain XML: %w", err)
	}
	if d.Name == "" {
		return nil, fmt.Errorf("libvirt: domain XML: it has no name")
	}
	if len(d.NICs) > maxNICs {
		return nil, fmt.Errorf("libvirt: domain %s: %d adapters, at most %d", d.Name, len(d.NICs), maxNICs)
	}
	for i := range d.NICs {
		n := &d.NICs[i]
		n.MAC.Address = strings.ToLower(n.MAC.Address)
		if n.Alias.Name == "" {
			n.Alias.Name = fmt.Sprintf("net%d", i) // as libvirt numbers those of a running domain
		}
	}
	return &d, nil
}
