//go:build linux

package linux

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"crosstap/internal/control/platform"
)

// Attributes of tunnel devices (linux/if_link.h, linux/if_tunnel.h).
const (
	vxlanID       = 1
	vxlanGroup    = 2
	vxlanTTL      = 5
	vxlanTOS      = 6
	vxlanLearning = 7
	vxlanPort     = 15
	vxlanGroup6   = 16
	vxlanCsum     = 18
	vxlanZero6Tx  = 19

	geneveID      = 1
	geneveRemote  = 2
	geneveTTL     = 3
	geneveTOS     = 4
	genevePort    = 5
	geneveRemote6 = 7

	greIFlags    = 2
	greOFlags    = 3
	greIKey      = 4
	greOKey      = 5
	greLocal     = 6
	greRemote    = 7
	greTTL       = 8
	greTOS       = 9
	grePMTUDisc  = 10
	greERSPANIdx = 21
	greERSPANVer = 22
	greERSPANDir = 23
	greERSPANHw  = 24

	greKeyFlag = 0x2000 // GRE_KEY
	greSeqFlag = 0x1000 // GRE_SEQ

	ttl = 64
)

// device is a device of ours as it shall be, and as a step keeps it.
type device struct {
	Name  string         `json:"name"`
	Kind  string         `json:"kind"` // bridge (a carrier), vxlan, geneve, gretap, ip6gretap, erspan, ip6erspan
	Alias string         `json:"alias"`
	Encap platform.Encap `json:"encap,omitempty"`
	Addr  netip.Addr     `json:"addr,omitzero"`
	UDP   uint16         `json:"udp,omitempty"`
	Key   uint32         `json:"key,omitempty"`
	DSCP  uint8          `json:"dscp,omitempty"`
}

// tunnel returns the device for an output.
func tunnel(owner string, o platform.Output) device {
	d := device{
		Name: tunnelName(owner, o), Alias: tunnelAlias(owner, o), Encap: o.Encap, Addr: o.Addr.Unmap().WithZone(""), Key: o.Key, DSCP: o.DSCP,
	}
	six := ""
	if d.Addr.Is6() {
		six = "ip6"
	}
	switch o.Encap {
	case platform.EncapVXLAN, platform.EncapGeneve:
		d.Kind, d.UDP = string(o.Encap), udpPort(o)
	case platform.EncapGRE:
		d.Kind = six + "gretap"
	case platform.EncapERSPAN2, platform.EncapERSPAN3:
		d.Kind = six + "erspan"
	}
	return d
}

// tos is the DSCP in its octet.
func (d *device) tos() uint8 { return d.DSCP << 2 }

// create makes the device, down, and gives it its alias: one system call for both.
func (d *device) create() []*request {
	about := "make device " + d.Name
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated(d.Kind))
	if d.Kind != "bridge" {
		d.options(info.AddRtAttr(nl.IFLA_INFO_DATA, nil))
	}
	return []*request{
		{kind: unix.RTM_NEWLINK, flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL, about: about,
			parts: []nl.NetlinkRequestData{nl.NewIfInfomsg(unix.AF_UNSPEC), nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(d.Name)), info}},
		d.setAlias(),
	}
}

// options writes what the kind of device wants to know.
func (d *device) options(to *nl.RtAttr) {
	addr := d.Addr.AsSlice()
	switch d.Kind {
	case "vxlan":
		group := vxlanGroup
		if d.Addr.Is6() {
			group = vxlanGroup6
			to.AddRtAttr(vxlanZero6Tx, nl.Uint8Attr(0))
		}
		to.AddRtAttr(vxlanID, nl.Uint32Attr(d.Key))
		to.AddRtAttr(group, addr)
		to.AddRtAttr(vxlanTTL, nl.Uint8Attr(ttl))
		to.AddRtAttr(vxlanTOS, nl.Uint8Attr(d.tos()))
		to.AddRtAttr(vxlanLearning, nl.Uint8Attr(0))
		to.AddRtAttr(vxlanPort, binary.BigEndian.AppendUint16(nil, d.UDP))
	case "geneve":
		remote := geneveRemote
		if d.Addr.Is6() {
			remote = geneveRemote6
		}
		to.AddRtAttr(geneveID, nl.Uint32Attr(d.Key))
		to.AddRtAttr(remote, addr)
		to.AddRtAttr(geneveTTL, nl.Uint8Attr(ttl))
		to.AddRtAttr(geneveTOS, nl.Uint8Attr(d.tos()))
		to.AddRtAttr(genevePort, binary.BigEndian.AppendUint16(nil, d.UDP))
	default:
		d.gre(to, addr)
	}
}

// gre writes the options of GRE and ERSPAN. A DF bit would have copies thrown away that the path cannot carry whole.
func (d *device) gre(to *nl.RtAttr, addr []byte) {
	flags := uint16(greKeyFlag)
	if d.erspan() {
		flags |= greSeqFlag
	}
	key := binary.BigEndian.AppendUint32(nil, d.Key)
	to.AddRtAttr(greRemote, addr)
	to.AddRtAttr(greIKey, key)
	to.AddRtAttr(greOKey, key)
	to.AddRtAttr(greIFlags, binary.BigEndian.AppendUint16(nil, flags))
	to.AddRtAttr(greOFlags, binary.BigEndian.AppendUint16(nil, flags))
	to.AddRtAttr(greTTL, nl.Uint8Attr(ttl))
	to.AddRtAttr(greTOS, nl.Uint8Attr(d.tos()))
	if !d.Addr.Is6() {
		to.AddRtAttr(grePMTUDisc, nl.Uint8Attr(0))
	}
	switch d.Encap {
	case platform.EncapERSPAN2:
		to.AddRtAttr(greERSPANVer, nl.Uint8Attr(1))
		to.AddRtAttr(greERSPANIdx, nl.Uint32Attr(0))
	case platform.EncapERSPAN3:
		to.AddRtAttr(greERSPANVer, nl.Uint8Attr(2))
		to.AddRtAttr(greERSPANDir, nl.Uint8Attr(0))
		to.AddRtAttr(greERSPANHw, nl.Uint16Attr(0))
	}
}

func (d *device) erspan() bool {
	return d.Encap == platform.EncapERSPAN2 || d.Encap == platform.EncapERSPAN3
}

func (d *device) setAlias() *request {
	return &request{kind: unix.RTM_SETLINK, about: "set the alias of " + d.Name, parts: []nl.NetlinkRequestData{
		nl.NewIfInfomsg(unix.AF_UNSPEC), nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(d.Name)),
		nl.NewRtAttr(unix.IFLA_IFALIAS, nl.NonZeroTerminated(d.Alias)),
	}}
}

// up takes a device into service.
func (d *device) up() *request {
	m := nl.NewIfInfomsg(unix.AF_UNSPEC)
	m.Flags, m.Change = unix.IFF_UP, unix.IFF_UP
	return &request{kind: unix.RTM_SETLINK, about: "take up " + d.Name, parts: []nl.NetlinkRequestData{
		m, nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(d.Name)),
	}}
}

func deleteDevice(index int, about string) *request {
	m := nl.NewIfInfomsg(unix.AF_UNSPEC)
	m.Index = int32(index)
	return &request{kind: unix.RTM_DELLINK, about: about, parts: []nl.NetlinkRequestData{m}}
}

// commands are what makes the device.
func (d *device) commands() []string {
	add := fmt.Sprintf("ip link add %s type %s", d.Name, d.Kind)
	switch d.Kind {
	case "bridge":
		return []string{add, fmt.Sprintf("ip link set dev %s alias %s", d.Name, quote(d.Alias))}
	case "vxlan":
		add += fmt.Sprintf(" id %d remote %s dstport %d ttl %d tos %#x nolearning", d.Key, d.Addr, d.UDP, ttl, d.tos())
	case "geneve":
		add += fmt.Sprintf(" id %d remote %s dstport %d ttl %d tos %#x", d.Key, d.Addr, d.UDP, ttl, d.tos())
	default:
		hops := "ttl"
		if d.Addr.Is6() {
			hops = "hoplimit"
		}
		add += fmt.Sprintf(" remote %s key %d %s %d tos %#x", d.Addr, d.Key, hops, ttl, d.tos())
		if !d.Addr.Is6() {
			add += " nopmtudisc"
		}
		switch d.Encap {
		case platform.EncapERSPAN2:
			add += " seq erspan_ver 1 erspan 0"
		case platform.EncapERSPAN3:
			add += " seq erspan_ver 2 erspan_dir ingress erspan_hwid 0"
		}
	}
	return []string{
		add,
		fmt.Sprintf("ip link set dev %s alias %s", d.Name, quote(d.Alias)),
		fmt.Sprintf("sysctl -q -w net.ipv6.conf.%s.disable_ipv6=1", d.Name),
		fmt.Sprintf("ip link set dev %s up", d.Name),
	}
}
