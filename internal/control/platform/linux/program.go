//go:build linux

package linux

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/bpf"

	"crosstap/internal/control/platform"
	"crosstap/internal/filter"
	"crosstap/internal/flow"
	"crosstap/internal/frame"
)

// everything is more bytes than any frame has.
const everything = 262144

// maxProgram bounds a filter's instructions. The kernel takes 4096, but tells of a filter only what fits into 32 KiB.
const maxProgram = 2048

// choice says which packets of a port and direction are copied.
type choice struct {
	filter  string     // packet filter on the frame; "" for everything
	except  []flow.MAC // frames from these are copied elsewhere
	guard   []string   // expressions for our own copies
	noBcast bool       // broadcasts are copied at another port
	vlans   []uint16   // only these tags; nil for all
	sample  int        // one packet in this many
}

// expression is all of the choice that the filter language can say. What reads the frame from its start comes first: a "vlan"
// or a tunnel in the user's part moves all that follows it.
func (c *choice) expression() string {
	var parts []string
	for _, g := range c.guard {
		parts = append(parts, "not ("+g+")")
	}
	if c.noBcast {
		parts = append(parts, "not ether broadcast")
	}
	if len(c.except) > 0 {
		from := make([]string, len(c.except))
		for i, m := range c.except {
			from[i] = "ether src " + m.String()
		}
		parts = append(parts, "not ("+strings.Join(from, " or ")+")")
	}
	if c.filter != "" {
		parts = append(parts, "("+c.filter+")")
	}
	return strings.Join(parts, " and ")
}

// whole reports whether every packet of the machine with a MAC address is copied: nobody sends it its own, and our own copies are not its.
func (c *choice) whole(own flow.MAC) bool {
	others := slices.ContainsFunc(c.except, func(m flow.MAC) bool { return m != own })
	return c.filter == "" && c.sample <= 1 && c.vlans == nil && !c.noBcast && !others
}

// program compiles the choice to the text of a classic BPF program. residual names the tests that no program in the kernel can do;
// then there is no program.
func (c *choice) program() (code, residual string, err error) {
	f, err := filter.Compile(c.expression(), frame.LinkEthernet, filter.Options{KernelVLAN: true, Never: true, SnapLen: everything})
	if err != nil {
		return "", "", err
	}
	prog, rest, err := f.BPF()
	if err != nil {
		return "", "", err
	}
	if rest {
		x, _ := f.Explain() // what another back end refuses does not matter here
		return "", x.Deep, nil
	}
	prog = append(append(sampling(c.sample), tagged(c.vlans)...), prog...)
	if len(prog) > maxProgram {
		return "", "", fmt.Errorf("filter: %d instructions, at most %d: shorten the expression, or tap fewer ports in one session", len(prog), maxProgram)
	}
	code, err = assembled(prog)
	return code, "", err
}

// sampling lets one packet in n through, chosen at random.
func sampling(n int) []bpf.Instruction {
	if n <= 1 {
		return nil
	}
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtRand},
		bpf.ALUOpConstant{Op: bpf.ALUOpMod, Val: uint32(n)},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
	}
}

// tagged lets frames with one of the tags through. The kernel keeps the tag beside the frame.
func tagged(vlans []uint16) []bpf.Instruction {
	if vlans == nil {
		return nil
	}
	prog := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtVLANTagPresent},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipFalse: 1},
		bpf.RetConstant{Val: 0},
		bpf.LoadExtension{Num: bpf.ExtVLANTag},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0x0fff},
	}
	for i, v := range vlans { // each test that holds goes over the rest by plain jumps, which reach any distance
		prog = append(prog, bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(v), SkipFalse: 1}, bpf.Jump{Skip: uint32(2*(len(vlans)-1-i) + 1)})
	}
	return append(prog, bpf.RetConstant{Val: 0})
}

// guardOf is the expression for an output's own packets on their way. A copy is never copied.
func guardOf(o platform.Output) string {
	if !o.Addr.IsValid() {
		return ""
	}
	to := "dst host " + o.Addr.Unmap().WithZone("").String()
	switch o.Encap {
	case platform.EncapVXLAN, platform.EncapGeneve:
		return fmt.Sprintf("%s and udp dst port %d", to, udpPort(o))
	case platform.EncapGRE, platform.EncapERSPAN2, platform.EncapERSPAN3:
		return to + " and proto 47"
	}
	return to
}

// udpPort is the port that copies go to (RFC 7348, RFC 8926).
func udpPort(o platform.Output) uint16 {
	switch {
	case o.UDP != 0:
		return o.UDP
	case o.Encap == platform.EncapGeneve:
		return 6081
	}
	return 4789
}
