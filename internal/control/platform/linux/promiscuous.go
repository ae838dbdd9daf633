//go:build linux

package linux

import (
	"fmt"

	"crosstap/internal/control/platform"
)

// everything makes a session of a port that sees everything one that copies what comes into the bridge at any other port: each packet once, as
// from a hub. What the host itself sends comes in at no port, and is not seen. Machines that come later are sources with the next steps.
func (l *planner) everything(s *platform.Session) *platform.Refusal {
	if len(s.Outputs) != 1 || s.Outputs[0].Encap != "" {
		return &platform.Refusal{Reason: platform.ReasonCapability, Message: "a port that sees everything is one port of this host", Fix: "name it in the destination (port: {vm: NAME}, or iface:NAME), or use mirror"}
	}
	tool := localPort(s.Outputs[0])
	s.Method, s.Sources, s.ExceptFrom = platform.MethodMirror, nil, nil
	for _, p := range platform.Sorted(l.now.Ports) {
		if p.Switch == s.Switch && p.ID != tool && p.Owner == "" && p.Kind != platform.PortKernel && p.Kind != platform.PortMirror {
			s.Sources = append(s.Sources, platform.Source{Port: p.ID, Dir: platform.Ingress})
		}
	}
	if len(s.Sources) == 0 {
		return &platform.Refusal{Reason: platform.ReasonNoMatch, Message: fmt.Sprintf("bridge %s has no other port", s.Switch)}
	}
	return nil
}
