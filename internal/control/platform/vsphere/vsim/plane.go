package vsim

import (
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// plane is what a hypervisor does with frames: switch them, copy them as mirror sessions say, count flows. Guarded by extension.mu.
type plane struct {
	inboxes  map[string][][]byte // by machine and adapter
	wire     [][]byte            // what left through uplinks
	matched  map[string]uint64   // by session key, frames of its sources: for sampling
	numbers  map[string]uint32   // by session key, sequence numbers of ERSPAN
	flows    map[flowKey]*flowCount
	exported uint32 // records
}

// adapter is a virtual adapter with its place.
type adapter struct {
	vm      string
	index   int
	mac     [6]byte
	host    ref
	sw      string // distributed switch, or host and standard switch
	vlan    int    // 0 for none
	trunk   bool   // gets all VLANs, with their tags
	promisc bool
	port    *dvPort // nil on a standard switch
}

func (a *adapter) inbox() string { return a.vm + "/" + strconv.Itoa(a.index) }

// adapters lists the adapters of all machines that are on.
func (x *extension) adapters(ctx *simulator.Context) (out []adapter) {
	groups := map[ref][]types.HostPortGroup{}
	for _, h := range all[*simulator.HostSystem](x, "HostSystem") {
		ctx.WithLock(h, func() { groups[h.Self] = slices.Clone(h.Config.Network.Portgroup) })
	}
	for _, vm := range all[*simulator.VirtualMachine](x, "VirtualMachine") {
		ctx.WithLock(vm, func() {
			if vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn {
				return
			}
			index := 0
			for _, d := range vm.Config.Hardware.Device {
				if n, ok := d.(types.BaseVirtualEthernetCard); ok {
					a := adapter{vm: vm.Name, index: index, host: *vm.Runtime.Host}
					card := n.GetVirtualEthernetCard()
					if mac, err := net.ParseMAC(card.MacAddress); err == nil {
						copy(a.mac[:], mac)
					}
					index++
					if x.attach(&a, card, groups[a.host]) {
						out = append(out, a)
					}
				}
			}
		})
	}
	return out
}

// attach fills in where an adapter is.
func (x *extension) attach(a *adapter, card *types.VirtualEthernetCard, groups []types.HostPortGroup) bool {
	switch b := card.Backing.(type) {
	case *types.VirtualEthernetCardDistributedVirtualPortBackingInfo:
		x.mu.Lock()
		defer x.mu.Unlock()
		sw := x.switchByUUIDLocked(b.Port.SwitchUuid)
		if sw == nil || sw.ports[b.Port.PortKey] == nil {
			return false
		}
		a.port, a.sw = sw.ports[b.Port.PortKey], sw.ref.Value
		a.promisc = promiscuous(a.port.group.setting)
		switch v := a.port.group.setting.Vlan.(type) {
		case *types.VmwareDistributedVirtualSwitchVlanIdSpec:
			a.vlan = int(v.VlanId)
		case *types.VmwareDistributedVirtualSwitchTrunkVlanSpec:
			a.trunk = true
		}
		return true
	case *types.VirtualEthernetCardNetworkBackingInfo:
		for _, g := range groups {
			if g.Spec.Name == b.DeviceName {
				a.sw, a.vlan, a.trunk = a.host.Value+"/"+g.Spec.VswitchName, int(g.Spec.VlanId), g.Spec.VlanId == 4095
				sec := g.Spec.Policy.Security
				a.promisc = sec != nil && sec.AllowPromiscuous != nil && *sec.AllowPromiscuous
				return true
			}
		}
	}
	return false
}

// Send lets an adapter of a machine send a frame. It comes to whom it is for, to promiscuous ports of the same host, and as copies to
// where mirror sessions send them.
func (s *Server) Send(vm string, nic int, frame []byte) error {
	x := s.x
	ports := x.adapters(s.model.Service.Context)
	i := slices.IndexFunc(ports, func(a adapter) bool { return a.vm == vm && a.index == nic })
	if i < 0 {
		return fmt.Errorf("vsim: no adapter %d of machine %q that is on and connected", nic, vm)
	}
	src := &ports[i]
	x.mu.Lock()
	var away []mirrored
	if src.port != nil {
		count(&src.port.stats, frame, true)
		away = x.mirrorLocked(src.port, src.vlan, frame, true, ports)
	}
	for j := range ports {
		to := &ports[j]
		if j == i || to.sw != src.sw || !to.trunk && to.vlan != src.vlan {
			continue
		}
		forIt := frame[0]&1 == 1 || [6]byte(frame[:6]) == to.mac
		if !forIt && (!to.promisc || to.host != src.host) {
			continue
		}
		x.deliverLocked(to, src.vlan, frame)
		if to.port != nil && forIt {
			away = append(away, x.mirrorLocked(to.port, src.vlan, frame, false, ports)...)
			x.meterLocked(src, to, frame)
		}
	}
	x.mu.Unlock()
	for _, m := range away {
		if err := m.send(); err != nil {
			return err
		}
	}
	return nil
}

// deliverLocked puts a frame into an adapter's inbox, with its VLAN tag on a trunk.
func (x *extension) deliverLocked(to *adapter, vlan int, frame []byte) {
	if to.trunk && vlan != 0 {
		frame = tagged(frame, vlan)
	}
	if x.plane.inboxes == nil {
		x.plane.inboxes = map[string][][]byte{}
	}
	x.plane.inboxes[to.inbox()] = append(x.plane.inboxes[to.inbox()], slices.Clone(frame))
	if to.port != nil {
		count(&to.port.stats, frame, false)
	}
}

func tagged(frame []byte, vlan int) []byte {
	tag := []byte{0x81, 0, byte(vlan >> 8), byte(vlan)}
	return slices.Concat(frame[:12], tag, frame[12:])
}

func count(s *types.DistributedVirtualSwitchPortStatistics, frame []byte, in bool) {
	n := int64(len(frame))
	switch group := frame[0]&1 == 1; {
	case in && group:
		s.PacketsInMulticast++
		s.BytesInMulticast += n
	case in:
		s.PacketsInUnicast++
		s.BytesInUnicast += n
	case group:
		s.PacketsOutMulticast++
		s.BytesOutMulticast += n
	default:
		s.PacketsOutUnicast++
		s.BytesOutUnicast += n
	}
}

// Received returns and forgets the frames that an adapter got.
func (s *Server) Received(vm string, nic int) [][]byte {
	s.x.mu.Lock()
	defer s.x.mu.Unlock()
	key := (&adapter{vm: vm, index: nic}).inbox()
	out := s.x.plane.inboxes[key]
	delete(s.x.plane.inboxes, key)
	return out
}

// mirrored is a copy that leaves the host in a tunnel.
type mirrored struct {
	to     string
	packet []byte // from the GRE header on
}

// send puts a copy on the wire. It needs the right to open raw sockets.
func (m mirrored) send() error {
	c, err := net.Dial("ip:gre", m.to)
	if err != nil {
		return fmt.Errorf("vsim: mirror: %w", err)
	}
	defer func() { _ = c.Close() }()
	_, err = c.Write(m.packet)
	return err
}

// mirrorLocked copies a frame that a port receives (ingress, from its machine) or transmits, as the sessions of its switch say.
func (x *extension) mirrorLocked(p *dvPort, vlan int, frame []byte, ingress bool, ports []adapter) (away []mirrored) {
	for _, n := range p.group.sw.sessions {
		keys := portsOf(n.SourcePortTransmitted).PortKey
		if ingress {
			keys = portsOf(n.SourcePortReceived).PortKey
		}
		if !n.Enabled || !slices.Contains(keys, p.key) {
			continue
		}
		if x.plane.matched == nil {
			x.plane.matched, x.plane.numbers = map[string]uint64{}, map[string]uint32{}
		}
		if x.plane.matched[n.Key]++; x.plane.matched[n.Key]%uint64(n.SamplingRate) != 0 {
			continue
		}
		dup := frame
		if l := int(n.MirroredPacketLength); l > 0 && l < len(dup) {
			dup = dup[:l]
		}
		for _, addr := range portsOf(n.DestinationPort).IpAddress {
			away = append(away, mirrored{addr, x.encapsulateLocked(&n, dup, vlan, ingress)})
		}
		for i := range ports {
			to := &ports[i]
			if to.port != nil && to.sw == p.group.sw.ref.Value && slices.Contains(portsOf(n.DestinationPort).PortKey, to.port.key) && *p.host == to.host {
				x.deliverLocked(to, vlan, dup)
			}
		}
		if len(portsOf(n.DestinationPort).UplinkPortName) > 0 {
			x.remoteLocked(p.group.sw, tagged(dup, int(n.EncapsulationVlanId)), int(n.EncapsulationVlanId), ports)
		}
	}
	return away
}

// remoteLocked sends a copy out on a VLAN, and gives it to the sessions that take this VLAN in.
func (x *extension) remoteLocked(sw *dvSwitch, frame []byte, vlan int, ports []adapter) {
	x.plane.wire = append(x.plane.wire, slices.Clone(frame))
	for _, n := range sw.sessions {
		if !n.Enabled || !slices.Contains(portsOf(n.SourcePortReceived).Vlans, int32(vlan)) {
			continue
		}
		for i := range ports {
			if to := &ports[i]; to.port != nil && to.sw == sw.ref.Value && slices.Contains(portsOf(n.DestinationPort).PortKey, to.port.key) {
				x.deliverLocked(to, 0, frame)
			}
		}
	}
}

// OnTheWire returns and forgets the copies that left through uplinks.
func (s *Server) OnTheWire() [][]byte {
	s.x.mu.Lock()
	defer s.x.mu.Unlock()
	out := s.x.plane.wire
	s.x.plane.wire = nil
	return out
}

// encapsulateLocked puts GRE, or GRE and ERSPAN type II or III (draft-foschiano-erspan-03, sections 4.2 and 4.3), before a frame.
func (x *extension) encapsulateLocked(n *types.VMwareVspanSession, frame []byte, vlan int, ingress bool) []byte {
	const bridging, erspan2, erspan3 = 0x6558, 0x88be, 0x22eb
	be := binary.BigEndian
	if n.EncapType == string(types.VMwareDVSVspanSessionEncapTypeGre) {
		return append(be.AppendUint16([]byte{0, 0}, bridging), frame...)
	}
	number := x.plane.numbers[n.Key]
	x.plane.numbers[n.Key]++
	kind, version := uint16(erspan2), uint16(1)
	if n.EncapType == string(types.VMwareDVSVspanSessionEncapTypeErspan3) {
		kind, version = erspan3, 2
	}
	b := be.AppendUint16([]byte{0x10, 0}, kind) // with a sequence number
	b = be.AppendUint32(b, number)
	b = be.AppendUint16(b, version<<12|uint16(vlan))
	b = be.AppendUint16(b, uint16(n.ErspanCOS)<<13|uint16(n.ErspanId))
	if version == 1 {
		return append(be.AppendUint32(b, 0), frame...)
	}
	b = be.AppendUint32(b, number) // time, in units of 100 µs
	b = be.AppendUint16(b, 0)
	direction := uint16(1 << 3)
	if ingress {
		direction = 0
	}
	return append(be.AppendUint16(b, direction), frame...)
}
