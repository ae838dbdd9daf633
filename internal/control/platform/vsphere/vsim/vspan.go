package vsim

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vmware/govmomi/vim25/types"
)

// editSessionsLocked returns the mirror sessions after the operations, or the fault that a switch answers with.
func (x *extension) editSessionsLocked(sw *dvSwitch, specs []types.VMwareDVSVspanConfigSpec) ([]types.VMwareVspanSession, types.BaseMethodFault) {
	list := slices.Clone(sw.sessions)
	for _, spec := range specs {
		n := spec.VspanSession
		i := slices.IndexFunc(list, func(o types.VMwareVspanSession) bool { return n.Key != "" && o.Key == n.Key })
		op := types.ConfigSpecOperation(spec.Operation)
		switch {
		case op == types.ConfigSpecOperationAdd:
			x.sessionKey++
			n.Key = fmt.Sprintf("dvs.VmwareVspanSession-%d", x.sessionKey)
			list = append(list, withDefaults(n))
		case op != types.ConfigSpecOperationEdit && op != types.ConfigSpecOperationRemove:
			return nil, invalid("operation")
		case i < 0:
			return nil, &types.NotFound{}
		case op == types.ConfigSpecOperationEdit:
			list[i] = withDefaults(n)
		default:
			list = slices.Delete(list, i, i+1)
		}
	}
	if len(list) > x.maxSessions {
		limit := int32(x.maxSessions)
		return nil, &types.LimitExceeded{Property: "vspanSession", Limit: &limit}
	}
	for i := range list {
		if fault := x.checkSessionLocked(sw, &list[i]); fault != nil {
			return nil, fault
		}
	}
	return list, checkTogether(list)
}

func withDefaults(n types.VMwareVspanSession) types.VMwareVspanSession {
	if n.SessionType == "" {
		n.SessionType = string(types.VMwareDVSVspanSessionTypeMixedDestMirror)
	}
	if n.SamplingRate == 0 {
		n.SamplingRate = 1
	}
	if n.EncapType == "" && n.SessionType == string(types.VMwareDVSVspanSessionTypeEncapsulatedRemoteMirrorSource) {
		n.EncapType = string(types.VMwareDVSVspanSessionEncapTypeGre)
	}
	return n
}

func invalid(property string) types.BaseMethodFault {
	return &types.InvalidArgument{InvalidProperty: "spec.vspanConfigSpec.vspanSession." + property}
}

// portsOf returns the ports of one side of a session.
func portsOf(p *types.VMwareVspanPort) types.VMwareVspanPort {
	if p == nil {
		return types.VMwareVspanPort{}
	}
	return *p
}

// checkSessionLocked holds one session against the ranges of the API reference.
func (x *extension) checkSessionLocked(sw *dvSwitch, n *types.VMwareVspanSession) types.BaseMethodFault {
	tx, rx, to := portsOf(n.SourcePortTransmitted), portsOf(n.SourcePortReceived), portsOf(n.DestinationPort)
	switch {
	case n.MirroredPacketLength != 0 && n.MirroredPacketLength < 60:
		return invalid("mirroredPacketLength")
	case n.SamplingRate < 1 || n.SamplingRate > 65535:
		return invalid("samplingRate")
	case n.ErspanId < 0 || n.ErspanId > 0x3ff:
		return invalid("erspanId")
	case n.ErspanCOS < 0 || n.ErspanCOS > 7:
		return invalid("erspanCOS")
	case n.EncapType != "" && !slices.Contains(types.VMwareDVSVspanSessionEncapType("").Strings(), n.EncapType):
		return invalid("encapType")
	case len(tx.UplinkPortName) > 0 || len(rx.UplinkPortName) > 0:
		return invalid("sourcePort.uplinkPortName")
	case len(tx.WildcardPortConnecteeType) > 0 || len(to.WildcardPortConnecteeType) > 0:
		return invalid("wildcardPortConnecteeType")
	}
	if fault := checkEnds(n, tx, rx, to); fault != nil {
		return fault
	}
	return x.checkPortsLocked(sw, n, tx, rx, to)
}

// checkEnds holds sources and destinations against the type of the session.
func checkEnds(n *types.VMwareVspanSession, tx, rx, to types.VMwareVspanPort) types.BaseMethodFault {
	sources := len(tx.PortKey) + len(rx.PortKey)
	ports, uplinks, addrs := len(to.PortKey), len(to.UplinkPortName), len(to.IpAddress)
	var good bool
	switch types.VMwareDVSVspanSessionType(n.SessionType) {
	case types.VMwareDVSVspanSessionTypeDvPortMirror:
		good = uplinks == 0 && addrs == 0
	case types.VMwareDVSVspanSessionTypeMixedDestMirror:
		good = addrs == 0
	case types.VMwareDVSVspanSessionTypeRemoteMirrorSource:
		good = ports == 0 && addrs == 0 && n.EncapsulationVlanId > 0 && n.EncapsulationVlanId < 4095
	case types.VMwareDVSVspanSessionTypeRemoteMirrorDest:
		good = sources == 0 && len(rx.Vlans) > 0 && ports > 0 && uplinks == 0 && addrs == 0
	case types.VMwareDVSVspanSessionTypeEncapsulatedRemoteMirrorSource:
		good = ports == 0 && uplinks == 0 && addrs > 0
	default:
		return invalid("sessionType")
	}
	if !good {
		return invalid("destinationPort")
	}
	for _, a := range to.IpAddress {
		if _, err := netip.ParseAddr(a); err != nil {
			return invalid("destinationPort.ipAddress")
		}
	}
	return nil
}

// checkPortsLocked looks at each port of a session.
func (x *extension) checkPortsLocked(sw *dvSwitch, n *types.VMwareVspanSession, tx, rx, to types.VMwareVspanPort) types.BaseMethodFault {
	for _, key := range slices.Concat(tx.PortKey, rx.PortKey, to.PortKey) {
		if sw.ports[key] == nil {
			return invalid("portKey")
		}
	}
	for _, key := range to.PortKey {
		if slices.Contains(tx.PortKey, key) || slices.Contains(rx.PortKey, key) {
			return &types.VspanSameSessionPortConflict{VspanSessionKey: n.Key, PortKey: key}
		}
	}
	for _, key := range slices.Concat(tx.PortKey, to.PortKey) {
		if promiscuous(sw.ports[key].group.setting) {
			return &types.VspanPromiscuousPortNotSupported{VspanSessionKey: n.Key, PortKey: key}
		}
	}
	return nil
}

// checkTogether looks for ports that two sessions cannot have at once.
func checkTogether(list []types.VMwareVspanSession) types.BaseMethodFault {
	destination := map[string]string{}
	for _, n := range list {
		for _, key := range portsOf(n.DestinationPort).PortKey {
			if other, taken := destination[key]; taken {
				return &types.VspanDestPortConflict{VspanSessionKey1: other, VspanSessionKey2: n.Key, PortKey: key}
			}
			destination[key] = n.Key
		}
	}
	for _, n := range list {
		for _, key := range portsOf(n.SourcePortTransmitted).PortKey {
			if other, taken := destination[key]; taken {
				return &types.VspanPortConflict{VspanSessionKey1: n.Key, VspanSessionKey2: other, PortKey: key}
			}
		}
	}
	return nil
}

// promiscuous reports whether ports with this setting get everything.
func promiscuous(s *types.VMwareDVSPortSetting) bool {
	if s == nil {
		return false
	}
	if m := s.MacManagementPolicy; m != nil && m.AllowPromiscuous != nil {
		return *m.AllowPromiscuous
	}
	p := s.SecurityPolicy
	return p != nil && p.AllowPromiscuous != nil && p.AllowPromiscuous.Value != nil && *p.AllowPromiscuous.Value
}

// checkIPFIX holds an export's settings against the ranges of the API reference, and fills in the defaults.
func checkIPFIX(c types.VMwareIpfixConfig) (*types.VMwareIpfixConfig, types.BaseMethodFault) {
	bad := ""
	addr, err := netip.ParseAddr(c.CollectorIpAddress)
	switch {
	case c.CollectorIpAddress != "" && (err != nil || addr.Zone() != ""):
		bad = "collectorIpAddress"
	case c.CollectorPort < 0 || c.CollectorPort > 65535:
		bad = "collectorPort"
	case c.ObservationDomainId < 0 || c.ObservationDomainId > 1<<32-1:
		bad = "observationDomainId"
	case c.ActiveFlowTimeout < 60 || c.ActiveFlowTimeout > 3600:
		bad = "activeFlowTimeout"
	case c.IdleFlowTimeout != 0 && (c.IdleFlowTimeout < 10 || c.IdleFlowTimeout > 600):
		bad = "idleFlowTimeout"
	case c.SamplingRate < 0 || c.SamplingRate > 16384:
		bad = "samplingRate"
	}
	if bad != "" {
		return nil, &types.InvalidArgument{InvalidProperty: "spec.ipfixConfig." + bad}
	}
	if c.IdleFlowTimeout == 0 {
		c.IdleFlowTimeout = 15
	}
	return &c, nil
}
