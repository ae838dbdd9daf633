package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"crosstap/internal/kernel"
)

// probe tries one feature of the kernel inside a network namespace that nobody else uses. The error says why it
// does not work.
type probe struct {
	name   string
	use    string
	needs  []string
	action string
	try    func() error
}

// probes in their order: later ones use the links that earlier ones made.
var probes = []probe{
	{"veth pair", "the lab, tap ports", []string{"demo"}, "modprobe veth", tryVeth},
	{"bridge", "the lab", []string{"demo"}, "modprobe bridge", tryBridge},
	{"VXLAN", "the lab, tunnels", []string{"demo"}, "modprobe vxlan", tryVXLAN},
	{checkTCX, "copies, flow counts and headers made in the kernel (tap --path tcx)", nil, "Linux 6.6 or newer; without it clsact is used", func() error { return tryWay(kernel.TCX) }},
	{checkFlows, "flow counts and headers made in the kernel", nil, "Linux 5.12 or newer; without it frames come through the packet ring", kernel.TryFlows},
	{checkMirror, "copies made in the kernel", nil, "Linux 5.14 or newer with /dev/net/tun (modprobe tun); without it user space makes the copies", kernel.TryMirror},
	{"tc clsact", "mirrors on Linux bridges", nil, "modprobe sch_ingress", tryClsact},
	{checkClsact, "copies, flow counts and headers made in the kernel (tap --path clsact)", nil, "modprobe cls_bpf; without it frames come through the packet ring", func() error { return tryWay(kernel.Clsact) }},
	{"tc u32 with mirred", "mirrors on Linux bridges", []string{"demo"}, "modprobe cls_u32 act_mirred", tryU32},
	{"tc matchall with mirred", "mirrors without a filter", nil, "modprobe cls_matchall; without it u32 is used", tryMatchall},
	{"tc flower", "filters of mirrors", nil, "modprobe cls_flower; without it u32 or the residual filter is used", tryFlower},
	{"nft dup", "copies by nftables", nil, "modprobe nft_dup_netdev, apt-get install nftables", tryNft},
	{"Geneve", "Geneve tunnels", nil, "modprobe geneve; crosstap reads Geneve without it", tryGeneve},
	{"ERSPAN", "ERSPAN tunnels", nil, "modprobe ip_gre; crosstap reads ERSPAN without it", tryERSPAN},
}

// Checks that decide which path a tap can take.
const (
	checkTCX    = "eBPF at TCX"
	checkClsact = "eBPF at clsact"
	checkFlows  = "eBPF flow table and ring"
	checkMirror = "eBPF copies"
)

// tryWay attaches a program to the veth pair.
func tryWay(way kernel.Way) error {
	from, _, err := ends()
	if err != nil {
		return err
	}
	return kernel.Try(way, from)
}

// tryHere tries programs in this process's own network namespace: at the loopback interface, and at a device of their own. They are taken away again.
func tryHere() map[string]string {
	found := map[string]string{}
	try := func(name string, f func() error) {
		found[name] = ""
		if err := f(); err != nil {
			found[name] = err.Error()
		}
	}
	way := func(w kernel.Way) func() error {
		return func() error {
			lo, err := net.InterfaceByName("lo")
			if err != nil {
				return err
			}
			return kernel.Try(w, lo.Index)
		}
	}
	try(checkTCX, way(kernel.TCX))
	try(checkClsact, way(kernel.Clsact))
	try(checkFlows, kernel.TryFlows)
	try(checkMirror, kernel.TryMirror)
	return found
}

// Probe tries every feature and writes what went wrong as a JSON object, "" for what works. Call it in a process
// with a fresh network namespace: it makes links and leaves them.
func Probe(w io.Writer) error {
	found := map[string]string{}
	for _, p := range probes {
		found[p.name] = ""
		if err := p.try(); err != nil {
			found[p.name] = err.Error()
		}
	}
	return json.NewEncoder(w).Encode(found)
}

const (
	veth, vethPeer = "xtp0", "xtp1"
)

func attrs(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}

func tryVeth() error {
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs(veth), PeerName: vethPeer}); err != nil {
		return fmt.Errorf("add veth: %w", err)
	}
	return nil
}

func tryBridge() error {
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs("xtpbr")}); err != nil {
		return fmt.Errorf("add bridge: %w", err)
	}
	return nil
}

func tryVXLAN() error {
	if err := netlink.LinkAdd(&netlink.Vxlan{LinkAttrs: attrs("xtpvx"), VxlanId: 5001, Port: 4789}); err != nil {
		return fmt.Errorf("add vxlan: %w", err)
	}
	return nil
}

func tryGeneve() error {
	if err := netlink.LinkAdd(&netlink.Geneve{LinkAttrs: attrs("xtpgn"), ID: 1, Remote: []byte{127, 0, 0, 2}}); err != nil {
		return fmt.Errorf("add geneve: %w", err)
	}
	return nil
}

func tryERSPAN() error {
	link := &netlink.GenericLink{LinkAttrs: attrs("xtper"), LinkType: "erspan"}
	if err := netlink.LinkAdd(link); err != nil && !errors.Is(err, os.ErrExist) { // a new namespace may have the kernel's own one, which is the same
		return fmt.Errorf("add erspan: %w", err)
	}
	return nil
}

// ends returns the indexes of the veth pair.
func ends() (from, to int, err error) {
	a, err := netlink.LinkByName(veth)
	if err != nil {
		return 0, 0, fmt.Errorf("no veth pair: %w", err)
	}
	b, err := netlink.LinkByName(vethPeer)
	if err != nil {
		return 0, 0, fmt.Errorf("no veth pair: %w", err)
	}
	return a.Attrs().Index, b.Attrs().Index, nil
}

func tryClsact() error {
	from, _, err := ends()
	if err != nil {
		return err
	}
	q := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: from, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
	if err := netlink.QdiscAdd(q); err != nil {
		return fmt.Errorf("add clsact: %w", err)
	}
	return nil
}

// filterOn returns what all filters on the ingress of the veth have in common, and an action that mirrors to the peer.
func filterOn(priority uint16) (netlink.FilterAttrs, []netlink.Action, error) {
	from, to, err := ends()
	mirror := netlink.NewMirredAction(to)
	mirror.MirredAction, mirror.Action = netlink.TCA_EGRESS_MIRROR, netlink.TC_ACT_PIPE
	return netlink.FilterAttrs{LinkIndex: from, Parent: netlink.HANDLE_MIN_INGRESS, Priority: priority, Protocol: unix.ETH_P_ALL}, []netlink.Action{mirror}, err
}

func tryU32() error {
	a, mirror, err := filterOn(1)
	if err == nil {
		err = netlink.FilterAdd(&netlink.U32{FilterAttrs: a, Actions: mirror})
	}
	if err != nil {
		return fmt.Errorf("add u32: %w", err)
	}
	return nil
}

func tryMatchall() error {
	a, mirror, err := filterOn(2)
	if err == nil {
		err = netlink.FilterAdd(&netlink.MatchAll{FilterAttrs: a, Actions: mirror})
	}
	if err != nil {
		return fmt.Errorf("add matchall: %w", err)
	}
	return nil
}

func tryFlower() error {
	a, mirror, err := filterOn(3)
	a.Protocol = unix.ETH_P_IP
	if err == nil {
		err = netlink.FilterAdd(&netlink.Flower{FilterAttrs: a, EthType: unix.ETH_P_IP, Actions: mirror})
	}
	if err != nil {
		return fmt.Errorf("add flower: %w", err)
	}
	return nil
}

// tryNft lets nft load a rule that copies frames: the rule language's own program is the only stable way in.
func tryNft() error {
	nft, err := exec.LookPath("nft")
	if err != nil {
		return fmt.Errorf("not tried: nft is not installed")
	}
	cmd := exec.Command(nft, "-f", "-")
	cmd.Stdin = strings.NewReader(`table netdev xtp { chain c { type filter hook ingress device "` + veth + `" priority 0; dup to "` + vethPeer + `" } }` + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		line, _, _ := strings.Cut(string(out), "\n")
		return fmt.Errorf("nft: %w: %s", err, line)
	}
	return nil
}
