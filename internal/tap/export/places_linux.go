package export

import (
	"fmt"
	"math"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"crosstap/internal/flowproto/about"
	"crosstap/internal/flowproto/sflow"
)

// inNamespaceOf gives f a handle to the kernel in a network namespace, "" for the process's own.
func inNamespaceOf(path string, f func(h *netlink.Handle) error) error {
	if path == "" {
		h, err := netlink.NewHandle()
		if err != nil {
			return err
		}
		defer h.Close()
		return f(h)
	}
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	return f(h)
}

// Places looks up interfaces: names and aliases, the switch each is a port of, and the VRFs of the host. What cannot be
// looked up is left out.
func Places(names []string, path string) Place {
	p := Place{Switch: make(map[uint32]string)}
	_ = inNamespaceOf(path, func(h *netlink.Handle) error {
		all, err := h.LinkList()
		if err != nil {
			return err
		}
		byIndex := make(map[int]netlink.Link, len(all))
		byName := make(map[string]netlink.Link, len(all))
		for _, l := range all {
			byIndex[l.Attrs().Index], byName[l.Attrs().Name] = l, l
			if v, ok := l.(*netlink.Vrf); ok {
				p.VRFs = append(p.VRFs, about.VRF{ID: v.Table, Name: v.Name})
			}
		}
		for _, name := range names {
			l, ok := byName[name]
			if !ok {
				continue
			}
			a := l.Attrs()
			p.Interfaces = append(p.Interfaces, about.Interface{Index: uint32(a.Index), Name: a.Name, Description: a.Alias})
			if m, ok := byIndex[a.MasterIndex]; ok && m.Type() != "vrf" {
				p.Switch[uint32(a.Index)] = m.Attrs().Name
			}
		}
		return nil
	})
	return p
}

// interfaceCounters reads the counters of interfaces. One that is gone is left out.
func interfaceCounters(names []string, path string) (out []sflow.CounterSample, err error) {
	err = inNamespaceOf(path, func(h *netlink.Handle) error {
		for _, name := range names {
			l, err := h.LinkByName(name)
			if err != nil || l.Attrs().Statistics == nil {
				continue
			}
			out = append(out, counterSample(l.Attrs()))
		}
		return nil
	})
	return out, err
}

// counterSample turns the kernel's counters into sFlow's. The kernel counts no broadcasts apart, and multicasts of what came only.
func counterSample(a *netlink.LinkAttrs) sflow.CounterSample {
	s := a.Statistics
	c := sflow.CounterSample{
		Name: a.Name, Index: uint32(a.Index), Type: ifTypeOf(a.EncapType), InOctets: s.RxBytes, OutOctets: s.TxBytes,
		InUnicast: count(s.RxPackets - min(s.Multicast, s.RxPackets)), InMulticast: count(s.Multicast), InBroadcast: sflow.Unknown,
		InDiscards: count(s.RxDropped), InErrors: count(s.RxErrors), InUnknown: sflow.Unknown,
		OutUnicast: count(s.TxPackets), OutMulticast: sflow.Unknown, OutBroadcast: sflow.Unknown,
		OutDiscards: count(s.TxDropped), OutErrors: count(s.TxErrors),
	}
	const up, running = 1, 2
	if a.RawFlags&0x1 != 0 { // IFF_UP
		c.Status |= up
	}
	if a.RawFlags&0x40 != 0 { // IFF_RUNNING
		c.Status |= running
	}
	if a.Promisc > 0 {
		c.Promiscuous = 1
	} else {
		c.Promiscuous = 2
	}
	return c
}

// count is a counter of 32 bits, which wraps; the value that stands for unknown is told as the one before it.
func count(n uint64) uint32 {
	if v := uint32(n & math.MaxUint32); v != sflow.Unknown {
		return v
	}
	return sflow.Unknown - 1
}

// ifTypeOf is the number of an encapsulation in IANA's registry ifType.
func ifTypeOf(encap string) uint32 {
	switch encap {
	case "loopback":
		return 24
	case "ether":
		return 6
	}
	return 1 // other
}
