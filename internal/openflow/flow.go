// Package openflow is a client of Open vSwitch's OpenFlow 1.4 for bridges of our own: flows are put in and taken out in bundles, all or
// nothing, and counted by their cookies.
package openflow

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// Flow is one entry of a table. InPort and the actions name ports; numbers take their place when the flow is sent.
type Flow struct {
	Table       uint8    `json:"table"`
	Priority    uint16   `json:"priority"`
	Cookie      uint64   `json:"-"`
	HardTimeout uint16   `json:"-"` // seconds after which the switch removes the flow; 0 for never
	InPort      string   `json:"in_port"`
	Match       string   `json:"match,omitempty"`   // besides InPort, as ovs-ofctl has it: dl_type=0x0800,nw_proto=6
	Actions     []Action `json:"actions,omitempty"` // none drops the packet
}

// Action is one thing that happens to a packet; exactly one of its parts is set.
type Action struct {
	Output    string  `json:"output,omitempty"`  // name of a port
	MaxLen    uint32  `json:"max_len,omitempty"` // of Output: bytes that leave; 0 for all
	Sample    *Sample `json:"sample,omitempty"`
	StripVLAN bool    `json:"strip_vlan,omitempty"`
	PushVLAN  uint16  `json:"push_vlan,omitempty"` // 1 to 4094: puts an 802.1Q tag outside those that are there
	Goto      uint8   `json:"goto,omitempty"`      // table; the last action
}

// Sample tells the packet to a collector set: the switch exports flow records of it.
type Sample struct {
	Probability uint16 `json:"probability"` // in 65535ths
	Set         uint32 `json:"set"`
	Domain      uint32 `json:"domain"`
	Point       uint32 `json:"point"`
}

// String gives the flow as "ovs-ofctl --names add-flow" takes it.
func (f Flow) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cookie=%#x,table=%d,priority=%d", f.Cookie, f.Table, f.Priority)
	if f.HardTimeout > 0 {
		fmt.Fprintf(&b, ",hard_timeout=%d", f.HardTimeout)
	}
	if f.InPort != "" {
		b.WriteString(",in_port=" + f.InPort)
	}
	if f.Match != "" {
		b.WriteString("," + f.Match)
	}
	b.WriteString(",actions=")
	for i, a := range f.Actions {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(a.String())
	}
	if len(f.Actions) == 0 {
		b.WriteString("drop")
	}
	return b.String()
}

// String gives the action as ovs-ofctl takes it.
func (a Action) String() string {
	switch {
	case a.Output != "" && a.MaxLen > 0:
		return fmt.Sprintf("output(port=%s,max_len=%d)", a.Output, a.MaxLen)
	case a.Output != "":
		return "output:" + a.Output
	case a.Sample != nil:
		return fmt.Sprintf("sample(probability=%d,collector_set_id=%d,obs_domain_id=%d,obs_point_id=%d)", a.Sample.Probability, a.Sample.Set, a.Sample.Domain, a.Sample.Point)
	case a.StripVLAN:
		return "strip_vlan"
	case a.PushVLAN != 0:
		return fmt.Sprintf("push_vlan:%#04x,set_field:%d->vlan_vid", dot1q, vidPresent|a.PushVLAN)
	}
	return fmt.Sprintf("goto_table:%d", a.Goto)
}

var be = binary.BigEndian

// Commands of a flow mod.
const (
	flowAdd    = 0
	flowDelete = 3
	anyTable   = 0xff
	anyPort    = 0xffffffff
	noBuffer   = 0xffffffff
)

// mod encodes an OFPT_FLOW_MOD without its header (OpenFlow 1.4, section 7.3.4.1).
func (f Flow) mod(ports map[string]uint32) ([]byte, error) {
	match, err := f.match(ports)
	if err != nil {
		return nil, err
	}
	b := modHead(flowAdd, f.Table, f.Priority, f.HardTimeout, f.Cookie, 0)
	b = append(b, match...)
	apply, next, err := f.instructions(ports)
	if err != nil {
		return nil, err
	}
	return append(append(b, apply...), next...), nil
}

// deleteMod removes the flows whose cookie has the value in the bits of the mask, from all tables.
func deleteMod(cookie, mask uint64) []byte {
	b := modHead(flowDelete, anyTable, 0, 0, cookie, mask)
	return append(b, oxmMatch(nil)...)
}

func modHead(command, table uint8, priority, hard uint16, cookie, mask uint64) []byte {
	b := be.AppendUint64(nil, cookie)
	b = be.AppendUint64(b, mask)
	b = append(b, table, command)
	b = be.AppendUint16(b, 0) // idle timeout
	b = be.AppendUint16(b, hard)
	b = be.AppendUint16(b, priority)
	b = be.AppendUint32(b, noBuffer)
	b = be.AppendUint32(b, anyPort)
	b = be.AppendUint32(b, anyPort) // any group
	return append(b, 0, 0, 0, 0)    // flags, importance
}

// match encodes the flow's match.
func (f Flow) match(ports map[string]uint32) ([]byte, error) {
	var fields []byte
	if f.InPort != "" {
		n, ok := ports[f.InPort]
		if !ok {
			return nil, fmt.Errorf("openflow: port %s is not on the bridge", f.InPort)
		}
		fields = append(fields, oxmHeader(classBasic, 0, false, 4)...)
		fields = be.AppendUint32(fields, n)
	}
	more, err := encodeMatch(f.Match)
	if err != nil {
		return nil, err
	}
	return oxmMatch(append(fields, more...)), nil
}

// instructions encodes the actions: those to apply, and the table to go to.
func (f Flow) instructions(ports map[string]uint32) (apply, next []byte, err error) {
	const gotoTable, applyActions = 1, 4
	var actions []byte
	for _, a := range f.Actions {
		if a.Goto != 0 {
			next = append(be.AppendUint16(be.AppendUint16(nil, gotoTable), 8), a.Goto, 0, 0, 0)
			continue
		}
		one, err := a.encode(ports)
		if err != nil {
			return nil, nil, err
		}
		actions = append(actions, one...)
	}
	if len(actions) == 0 {
		return nil, next, nil
	}
	apply = be.AppendUint16(be.AppendUint16(nil, applyActions), uint16(8+len(actions)))
	return append(append(apply, 0, 0, 0, 0), actions...), next, nil
}

// Types of actions; the extensions of Open vSwitch are experimenter actions of Nicira.
const (
	actOutput       = 0
	actPushVLAN     = 17
	actPopVLAN      = 18
	actSetField     = 25
	actExperimenter = 0xffff
	nicira          = 0x2320
	nxSample2       = 38
	nxOutputTrunc   = 39
)

// A VLAN tag: its EtherType (IEEE 802.1Q, table 9-1), and the bit of the field vlan_vid that says that there is one (OpenFlow 1.4, section
// 7.2.3.7).
const (
	dot1q      = 0x8100
	vidPresent = 0x1000
	oxmVLAN    = 6
)

func (a Action) encode(ports map[string]uint32) ([]byte, error) {
	head := func(typ, size uint16) []byte { return be.AppendUint16(be.AppendUint16(nil, typ), size) }
	extension := func(size, subtype uint16) []byte {
		return be.AppendUint16(be.AppendUint32(head(actExperimenter, size), nicira), subtype)
	}
	switch {
	case a.Sample != nil:
		b := be.AppendUint16(extension(32, nxSample2), a.Sample.Probability)
		b = be.AppendUint32(b, a.Sample.Set)
		b = be.AppendUint32(b, a.Sample.Domain)
		b = be.AppendUint32(b, a.Sample.Point)
		b = be.AppendUint16(b, 0xffff) // no sampling port
		return append(b, 0, 0, 0, 0, 0, 0), nil
	case a.StripVLAN:
		return append(head(actPopVLAN, 8), 0, 0, 0, 0), nil
	case a.PushVLAN != 0:
		b := append(be.AppendUint16(head(actPushVLAN, 8), dot1q), 0, 0)
		b = append(b, head(actSetField, 16)...)
		b = be.AppendUint16(append(b, oxmHeader(classBasic, oxmVLAN, false, 2)...), vidPresent|a.PushVLAN)
		return append(b, 0, 0, 0, 0, 0, 0), nil
	}
	n, ok := ports[a.Output]
	if !ok {
		return nil, fmt.Errorf("openflow: port %s is not on the bridge", a.Output)
	}
	if a.MaxLen > 0 {
		return be.AppendUint32(be.AppendUint16(extension(16, nxOutputTrunc), uint16(n)), a.MaxLen), nil
	}
	b := be.AppendUint32(head(actOutput, 16), n)
	return append(b, 0xff, 0xff, 0, 0, 0, 0, 0, 0), nil // the whole packet, should it go to a controller
}
