package tap

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"golang.org/x/net/bpf"

	"crosstap/internal/filter"
	"crosstap/internal/frame"
	"crosstap/internal/netns"
	"crosstap/internal/rpcap"
	"crosstap/internal/tap/capture"
)

// makeRemote makes the source of interfaces of other hosts.
func (t *Tap) makeRemote(snap int) error {
	s := &t.spec
	c := capture.RemoteConfig{NetNS: s.NetNS, SnapLen: snap, Promiscuous: s.Promiscuous, Ready: s.Ready, Log: s.Log}
	for _, text := range s.Remotes {
		target, err := rpcap.ParseTarget(text)
		if err != nil {
			return fmt.Errorf("tap: %w", err)
		}
		c.Targets = append(c.Targets, target)
	}
	if s.Filter != "" {
		c.Filter = func(link frame.LinkType) ([]bpf.RawInstruction, error) { return remoteFilter(s, link) }
	}
	r, err := capture.NewRemote(c)
	if err != nil {
		return err
	}
	t.source, t.at = r, r
	return nil
}

// remoteFilter compiles the filter for the remote end; nil when it cannot be. What that lets through too much the sieve takes out.
func remoteFilter(s *Spec, link frame.LinkType) ([]bpf.RawInstruction, error) {
	f, err := filter.Compile(s.Filter, link, s.filterOptions())
	if err != nil {
		return nil, err
	}
	prog, _, err := f.BPF()
	if err != nil {
		if s.Log != nil {
			s.Log.Warn("the remote end cannot filter: every frame is sent", "reason", err)
		}
		return nil, nil
	}
	return bpf.Assemble(prog)
}

// newRPCAP returns the branch of a server for clients of libpcap's remote capture.
func (t *Tap) newRPCAP(to, rest string, o own) (*branch, error) {
	if t.spec.File != "" {
		return nil, fmt.Errorf("tap: destination %s: a capture file is read before a client has come: name interfaces", rest)
	}
	c, err := rpcap.ParseServer(rest)
	if err != nil {
		return nil, fmt.Errorf("tap: %w", err)
	}
	c.Interfaces, c.Log = t.offered, t.spec.Log
	c.Dropped = func(point uint32) (kernel, device uint64) { return t.at.Lost(point), t.at.Missed(point) }
	sink, err := rpcap.NewSink(rest, c)
	if err != nil {
		return nil, fmt.Errorf("tap: %w", err)
	}
	b, err := t.newBranch(to, o, sink, true)
	if err != nil {
		return nil, err
	}
	t.remotes = append(t.remotes, sink)
	return b, nil
}

// offered lists the points of the source as interfaces.
func (t *Tap) offered() (list []rpcap.Interface) {
	n := len(t.spec.Interfaces)
	if p, ok := t.at.(interface{ Points() int }); ok {
		n = p.Points()
	}
	for point := range uint32(n) {
		i := rpcap.Interface{Link: frame.LinkEthernet, Flags: pcapUp | pcapRunning | pcapConnected}
		i.Name, _ = t.at.Interface(point)
		if link, ok := t.at.Link(point); ok {
			i.Link = link
		}
		list = append(list, i)
	}
	if t.live != nil {
		_ = netns.Do(t.spec.NetNS, func() error { return describeInterfaces(list) })
	}
	return list
}

// Flags of interfaces (pcap_findalldevs(3PCAP)).
const (
	pcapLoopback     = 0x01
	pcapUp           = 0x02
	pcapRunning      = 0x04
	pcapConnected    = 0x10
	pcapDisconnected = 0x20
	pcapNoConnection = 0x30 // it has no such notion
)

// describeInterfaces adds what the present network namespace knows of interfaces.
func describeInterfaces(list []rpcap.Interface) (err error) {
	for k := range list {
		i, errName := net.InterfaceByName(list[k].Name)
		if errName != nil {
			err = errors.Join(err, errName)
			continue
		}
		list[k].Flags = pcapFlags(i.Flags)
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			if p, ok := a.(*net.IPNet); ok {
				list[k].Addresses = append(list[k].Addresses, address(p, i.Flags))
			}
		}
	}
	return err
}

func pcapFlags(f net.Flags) (out uint32) {
	if f&net.FlagUp != 0 {
		out |= pcapUp
	}
	switch {
	case f&net.FlagLoopback != 0:
		out |= pcapLoopback | pcapNoConnection
	case f&net.FlagRunning != 0:
		out |= pcapConnected
	default:
		out |= pcapDisconnected
	}
	if f&net.FlagRunning != 0 {
		out |= pcapRunning
	}
	return out
}

func address(p *net.IPNet, f net.Flags) rpcap.Address {
	ip := p.IP.To4()
	if ip == nil {
		return rpcap.Address{Addr: p.IP, Mask: p.Mask}
	}
	a := rpcap.Address{Addr: ip, Mask: p.Mask}
	if f&net.FlagBroadcast != 0 && len(p.Mask) == len(ip) {
		a.Broadcast = slices.Clone(ip)
		for i := range a.Broadcast {
			a.Broadcast[i] |= ^p.Mask[i]
		}
	}
	return a
}
