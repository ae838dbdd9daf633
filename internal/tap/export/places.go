package export

import "crosstap/internal/flowproto/about"

// Place is what is known of the interfaces of a tap.
type Place struct {
	Interfaces []about.Interface
	VRFs       []about.VRF
	Switch     map[uint32]string // by ifIndex: the bridge or Open vSwitch that the interface is a port of
}

// Name returns the name of an interface, "" when it is not known.
func (p *Place) Name(index uint32) string {
	for _, i := range p.Interfaces {
		if i.Index == index {
			return i.Name
		}
	}
	return ""
}
