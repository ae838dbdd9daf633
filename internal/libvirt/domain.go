package libvirt

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
)

// Domain names a virtual machine.
type Domain struct {
	Name string
	UUID [16]byte
	ID   int32 // of a running one; -1
}

// Running reports whether the domain ran when it was named.
func (d Domain) Running() bool { return d.ID >= 0 }

// UUIDText returns the UUID in its usual form.
func (d Domain) UUIDText() string {
	u := d.UUID
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// Domains lists all domains, those that do not run too.
func (c *Conn) Domains(ctx context.Context) (all []Domain, err error) {
	var args encoder
	args.u32(1) // the list is wanted, not only its length
	args.u32(0) // no restriction
	err = c.call(ctx, procListAllDomains, args.b, func(d *decoder) {
		for range d.count(maxDomains, leastDomain) {
			all = append(all, d.domain())
		}
		d.u32()
	})
	return all, err
}

// XML returns a domain's description, of its running state when it runs.
func (c *Conn) XML(ctx context.Context, dom Domain) (text string, err error) {
	var args encoder
	args.domain(dom)
	args.u32(0)
	err = c.call(ctx, procGetXML, args.b, func(d *decoder) { text = d.str() })
	return text, err
}

// Hostname returns the name of the daemon's machine.
func (c *Conn) Hostname(ctx context.Context) (name string, err error) {
	err = c.call(ctx, procGetHostname, nil, func(d *decoder) { name = d.str() })
	return name, err
}

// Version returns the version of the daemon's libvirt, such as "9.0.0".
func (c *Conn) Version(ctx context.Context) (string, error) {
	var v uint64
	err := c.call(ctx, procGetLibVersion, nil, func(d *decoder) { v = d.u64() })
	return fmt.Sprintf("%d.%d.%d", v/1000000, v/1000%1000, v%1000), err
}

// AddrSource says who is asked for addresses (virDomainInterfaceAddressesSource).
type AddrSource uint32

// The sources of addresses.
const (
	FromLease AddrSource = iota // of libvirt's own DHCP server
	FromAgent                   // the guest agent; not on a read-only socket
	FromARP                     // the host's table of neighbours
)

// InterfaceAddrs is what a source knows of one adapter.
type InterfaceAddrs struct {
	Name  string // of the host's device, or, from the agent, of the guest's
	MAC   string // "" when not known
	Addrs []netip.Addr
}

// Addresses asks for the addresses of a running domain's adapters.
func (c *Conn) Addresses(ctx context.Context, dom Domain, from AddrSource) (all []InterfaceAddrs, err error) {
	var args encoder
	args.domain(dom)
	args.u32(uint32(from))
	args.u32(0)
	err = c.call(ctx, procInterfaceAddrs, args.b, func(d *decoder) {
		for range d.count(maxIfaces, 12) {
			all = append(all, d.interfaceAddrs())
		}
	})
	return all, err
}

func (d *decoder) interfaceAddrs() (out InterfaceAddrs) {
	out.Name, out.MAC = d.str(), strings.ToLower(d.optional())
	for range d.count(maxAddrs, 12) {
		d.i32() // the family
		text := d.str()
		d.u32() // the length of the prefix
		if a, err := netip.ParseAddr(text); err == nil {
			out.Addrs = append(out.Addrs, a.Unmap().WithZone(""))
		}
	}
	return out
}

// InterfaceStats are the counters of an adapter, as its VM sees them.
type InterfaceStats struct {
	RxBytes, RxPackets, RxErrors, RxDropped int64 // -1 for what the driver does not count
	TxBytes, TxPackets, TxErrors, TxDropped int64
}

// Stats returns the counters of a running domain's adapter; device is the host's device or the adapter's MAC.
func (c *Conn) Stats(ctx context.Context, dom Domain, device string) (s InterfaceStats, err error) {
	var args encoder
	args.domain(dom)
	args.str(device)
	err = c.call(ctx, procInterfaceStats, args.b, func(d *decoder) {
		for _, v := range []*int64{&s.RxBytes, &s.RxPackets, &s.RxErrors, &s.RxDropped, &s.TxBytes, &s.TxPackets, &s.TxErrors, &s.TxDropped} {
			*v = int64(d.u64())
		}
	})
	return s, err
}
