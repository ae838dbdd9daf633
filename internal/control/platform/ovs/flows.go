package ovs

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"crosstap/internal/filter"
	"crosstap/internal/frame"
	"crosstap/internal/openflow"
)

// The flows of a feed. Table 0 leaves out what is copied elsewhere and takes the access VLAN off, table 1 filters and passes on.
// Cookies: the high half names the feed, the low half the content; its last bit says that copies leave by the flow.
const (
	tableChoose = 0
	tablePass   = 1

	priorityExcept = 40000
	priorityStrip  = 20000
	priorityPlain  = 10000
	passBit        = 1
)

// feedMask covers the half of a cookie that names the feed.
const feedMask = 0xffffffff_00000000

func feedCookie(name string) uint64 {
	sum := sha256.Sum256([]byte(name))
	return uint64(binary.BigEndian.Uint32(sum[:])) << 32
}

// flows returns what a feed does, as flows.
func (s *feedSpec) flows() ([]openflow.Flow, error) {
	var out []openflow.Flow
	add := func(table uint8, priority int, match string, actions ...openflow.Action) {
		out = append(out, openflow.Flow{Table: table, Priority: uint16(priority), InPort: s.Name, Match: match, Actions: actions})
	}
	for _, mac := range s.What.Except {
		add(tableChoose, priorityExcept, "dl_src="+mac)
	}
	if s.What.Strip {
		add(tableChoose, priorityStrip, "vlan_tci=0x1000/0x1000", openflow.Action{StripVLAN: true}, openflow.Action{Goto: tablePass})
	}
	for _, vlan := range s.What.Untag {
		add(tableChoose, priorityStrip, fmt.Sprintf("vlan_tci=%#04x/0x1fff", 0x1000|vlan), openflow.Action{StripVLAN: true}, openflow.Action{Goto: tablePass})
	}
	add(tableChoose, priorityPlain, "", openflow.Action{Goto: tablePass})
	f, err := filter.Compile(s.What.Filter, frame.LinkEthernet, filter.Options{})
	if err != nil {
		return nil, err
	}
	entries, _, err := f.OpenFlow()
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.Pass {
			add(tablePass, e.Priority, e.Match(), s.What.actions()...)
		} else {
			add(tablePass, e.Priority, e.Match())
		}
	}
	s.stamp(out)
	return out, nil
}

// actions are what happens to a copy that passes. Tags come last: they are on the copy from there on. Open vSwitch cuts before it tags.
func (c *feedContent) actions() (out []openflow.Action) {
	for _, port := range c.To {
		out = append(out, openflow.Action{Output: port, MaxLen: uint32(c.Slice)})
	}
	if e := c.Export; e != nil {
		const all = 65535
		out = append(out, openflow.Action{Sample: &openflow.Sample{
			Probability: uint16(max(all/max(e.Sampling, 1), 1)), Set: e.ID, Domain: e.Domain, Point: e.Point,
		}})
	}
	for _, t := range c.Tagged {
		out = append(out, openflow.Action{PushVLAN: t.VLAN}, openflow.Action{Output: t.Port, MaxLen: uint32(c.Slice)}, openflow.Action{StripVLAN: true})
	}
	return out
}

// stamp gives the flows their cookies: the content's digest is taken before.
func (s *feedSpec) stamp(flows []openflow.Flow) {
	h := sha256.New()
	for i := range flows {
		flows[i].HardTimeout = uint16(s.What.Timeout)
		fmt.Fprintln(h, flows[i].String())
	}
	cookie := feedCookie(s.Name) | uint64(binary.BigEndian.Uint32(h.Sum(nil))&^passBit)
	for i := range flows {
		flows[i].Cookie = cookie
		for _, a := range flows[i].Actions {
			if a.Output != "" || a.Sample != nil {
				flows[i].Cookie = cookie | passBit
			}
		}
	}
}

// flowing reports whether the flows of a feed are in the switch, all of them and no others. When flows with a timeout are half-way to their
// end, they are not: they are to be made again.
func (d *db) flowing(s *feedSpec) bool {
	if d.flows == nil {
		return true // not looked at
	}
	counts, ok := d.flows[s.Bridge]
	want, err := s.flows()
	if !ok || err != nil {
		return false
	}
	need := map[uint64]int{}
	for _, f := range want {
		need[f.Cookie]++
	}
	for cookie, c := range counts {
		if cookie&feedMask != feedCookie(s.Name) {
			continue
		}
		if need[cookie] != c.Flows || s.What.Timeout > 0 && !d.fresh && int(c.Left) < s.What.Timeout/2 {
			return false
		}
		delete(need, cookie)
	}
	return len(need) == 0
}

// timeout is a lease in whole seconds, as flows can have it.
func timeout(seconds float64) int {
	const most = 65535
	return min(max(int(seconds), 0), most)
}
