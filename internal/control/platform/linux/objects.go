//go:build linux

package linux

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"

	"crosstap/internal/control/platform"
)

// Keys of Object.Raw. Steps reads them, so they hold all that a filter, device or qdisc is.
const (
	rawPort   = "port"
	rawIndex  = "ifindex"
	rawDir    = "direction"
	rawHandle = "handle"
	rawCode   = "bytecode"
	rawTo     = "to"     // names of devices, "gone" for one that is no more
	rawCookie = "cookie" // of the first action
	rawTail   = "tail"   // the last action's verdict: "continue" or ""
	rawKind   = "kind"
	rawAlias  = "alias"
	rawUp     = "up"
	rawOurs   = "ours"   // of a qdisc: a filter says that it was made for a mirror or a tap of ours
	rawTaken  = "taken"  // of a qdisc: directions in which somebody else has the place of our filters
	rawIdle   = "idle"   // of a qdisc of ours that nobody needs
	rawStays  = "stays"  // of a qdisc: the filters that only keep it, one line each, as tc names them
	rawTunnel = "tunnel" // what a VXLAN device is really set to, as tunnelKey has it
)

// objects lists what copies or could copy: our carriers, tunnels and filters, and foreign filters that mirror.
func (b *builder) objects() {
	for _, l := range b.links {
		a := l.Attrs()
		if !b.carriesMark(a) {
			continue
		}
		o := &platform.Object{
			ID: "device/" + a.Name, Name: a.Name, Kind: kindTunnel, Host: b.p.host, About: a.Alias,
			Raw: map[string]string{rawKind: l.Type(), rawAlias: a.Alias, rawIndex: strconv.Itoa(a.Index), rawUp: strconv.FormatBool(a.RawFlags&1 != 0)},
		}
		if l.Type() == "bridge" {
			o.Kind, o.Mark = kindTap, platform.ParseMark(a.Alias)
			b.sessions[cookieOf(o.Mark, false).session] = o.Mark
		} else {
			o.Mark = platform.Mark{Owner: ownerOf(a.Alias)}
			o.Remote = remoteOf(a.Alias)
			o.Outputs = []string{a.Name}
			if v, ok := l.(*netlink.Vxlan); ok {
				o.Raw[rawTunnel] = actualTunnel(v)
			}
		}
		b.out.Objects[o.ID] = o
	}
	for _, index := range b.indexes() {
		b.hooked(index)
	}
}

// actualTunnel is tunnelKey of what a device is set to.
func actualTunnel(v *netlink.Vxlan) string {
	addr, _ := netip.AddrFromSlice(v.Group)
	return tunnelKey(platform.Output{Encap: platform.EncapVXLAN, Addr: addr.Unmap(), UDP: uint16(v.Port), Key: uint32(v.VxlanId), DSCP: uint8(v.TOS >> 2)})
}

// remoteOf reads the address out of the alias of a tunnel: "… to vxlan 10.0.0.9 port …".
func remoteOf(alias string) string {
	_, after, _ := strings.Cut(alias, " to ")
	words := strings.Fields(after)
	if len(words) < 2 {
		return ""
	}
	return words[1]
}

// hooked lists the qdisc and the filters of one interface.
func (b *builder) hooked(index int) {
	name := b.deviceName(index)
	ours, about, idle := 0, "", ""
	var keep, taken []string
	claimed := ""
	if b.made[index] {
		claimed = "true"
	}
	for i := range b.filters[index] {
		f := &b.filters[index][i]
		if f.claims() {
			claimed = "true"
		}
		if f.preference == preference && (f.kind != "bpf" || f.protocol != protocolAll) {
			taken = append(taken, f.dir.String())
		}
		if f.keeps() {
			keep = append(keep, f.place())
			ours++
		}
		if o := b.filterObject(f, name); o != nil {
			b.out.Objects[o.ID] = o
			if _, mine := parseCookie(o.Raw[rawCookie]); mine {
				ours++
			}
		}
	}
	if claimed != "" && len(keep) == len(b.filters[index]) {
		idle, about = "true", "; it stays until the interface has been quiet for a while"
	}
	id := "qdisc/" + name
	b.out.Objects[id] = &platform.Object{
		ID: id, Name: b.qdiscs[index] + " of " + name, Kind: kindQdisc, Host: b.p.host,
		About: fmt.Sprintf("%d filters, %d of them ours%s", len(b.filters[index]), ours, about),
		Raw: map[string]string{
			rawPort: name, rawIndex: strconv.Itoa(index), rawKind: b.qdiscs[index], rawOurs: claimed, rawStays: strings.Join(keep, "\n"),
			rawIdle: idle, rawTaken: strings.Join(taken, " "),
		},
	}
}

// place is where a filter is, as tc takes it.
func (f *tcFilter) place() string {
	return fmt.Sprintf("%s pref %d protocol %#x handle %#x", f.dir, f.preference, f.protocol, f.handle)
}

func (b *builder) deviceName(index int) string {
	if l := b.byIndex[index]; l != nil {
		return l.Attrs().Name
	}
	return "gone"
}

// filterObject tells a filter that is ours or that mirrors; nil for any other.
func (b *builder) filterObject(f *tcFilter, port string) *platform.Object {
	if len(f.mirrors) == 0 {
		return nil
	}
	o := &platform.Object{
		ID:   fmt.Sprintf("filter/%s/%s/%d/%#x", port, f.dir, f.preference, f.handle),
		Name: fmt.Sprintf("filter %s %s", port, f.dir), Kind: kindFilter, Host: b.p.host, About: describe(f, b.deviceName),
		Sources: []platform.Source{{Port: port, Dir: f.dir}},
		Raw: map[string]string{
			rawPort: port, rawIndex: strconv.Itoa(f.index), rawDir: f.dir.String(), rawHandle: strconv.FormatUint(uint64(f.handle), 10), rawCode: f.code,
			rawKind: f.kind, rawCookie: hex.EncodeToString(f.mirrors[0].cookie),
		},
	}
	if p := b.out.Ports[port]; p != nil {
		o.Switch = p.Switch
	}
	for _, m := range f.mirrors {
		o.Outputs = append(o.Outputs, b.deviceName(m.target))
	}
	o.Raw[rawTo] = strings.Join(o.Outputs, " ")
	if f.mirrors[len(f.mirrors)-1].last {
		o.Raw[rawTail] = "continue"
	}
	if c, ours := parseCookie(o.Raw[rawCookie]); ours && f.preference == preference && f.kind == "bpf" {
		o.Mark = b.sessions[c.session]
	}
	return o
}
