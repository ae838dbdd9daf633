package filter

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/bpf"
)

// Explanation says what became of an expression in each back end.
type Explanation struct {
	Expr       string   `json:"expr"`
	Link       string   `json:"link"`
	Tests      string   `json:"tests"`             // the tests of the matcher, as text
	BPF        string   `json:"bpf"`               // the classic program, one instruction a line
	BPFLen     int      `json:"bpf_len"`           // its instructions
	EBPF       string   `json:"ebpf"`              // the eBPF program
	EBPFLen    int      `json:"ebpf_len"`          //
	OpenFlow   []string `json:"openflow"`          // entries of an Open vSwitch table, empty where there can be none
	FlowRest   bool     `json:"openflow_residual"` // the entries pass more than matches
	FlowNote   string   `json:"openflow_note"`     // why there are no entries
	KernelNote string   `json:"kernel_note"`       // why there are no programs
	Residual   bool     `json:"residual"`          // the kernel lets more through than matches: the matcher must look again
	Deep       string   `json:"deep"`              // the tests that only the matcher can do, "" for none
}

// Explain shows the filter in each of its back ends. The error says why there are no programs for the kernel; all else is filled
// in nevertheless.
func (f *Filter) Explain() (Explanation, error) {
	x := Explanation{Expr: f.Expr, Link: linkName(f.Link), Tests: text(f.root), Deep: strings.Join(f.residual(), ", ")}
	failed := x.kernel(f)
	if failed != nil {
		x.KernelNote = failed.Error()
	}
	flows, rest, err := f.OpenFlow()
	for _, e := range flows {
		x.OpenFlow = append(x.OpenFlow, e.Flow("output:TOOL"))
	}
	x.FlowRest = rest
	if err != nil {
		x.FlowNote = err.Error()
	}
	return x, failed
}

// kernel fills in the programs for the kernel.
func (x *Explanation) kernel(f *Filter) error {
	prog, residual, err := f.BPF()
	if err != nil {
		return err
	}
	x.Residual, x.BPFLen = residual, len(prog)
	var b strings.Builder
	for i, ins := range prog {
		fmt.Fprintf(&b, "(%03d) %s\n", i, instruction(i, ins))
	}
	x.BPF = b.String()
	e, _, err := f.EBPF()
	if err != nil {
		return err
	}
	x.EBPF, x.EBPFLen = fmt.Sprintf("%v", e), len(e)
	return nil
}

// instruction writes jumps with the number of the instruction they go to, as tcpdump -d does.
func instruction(i int, ins bpf.Instruction) string {
	switch v := ins.(type) {
	case bpf.Jump:
		return fmt.Sprintf("ja       %d", i+1+int(v.Skip))
	case bpf.JumpIf:
		return fmt.Sprintf("%-8s #%-#12x jt %d\tjf %d", jumpName[v.Cond], v.Val, i+1+int(v.SkipTrue), i+1+int(v.SkipFalse))
	case bpf.JumpIfX:
		return fmt.Sprintf("%-8s x             jt %d\tjf %d", jumpName[v.Cond], i+1+int(v.SkipTrue), i+1+int(v.SkipFalse))
	}
	return fmt.Sprint(ins)
}

var jumpName = map[bpf.JumpTest]string{bpf.JumpEqual: "jeq", bpf.JumpNotEqual: "jne", bpf.JumpGreaterThan: "jgt", bpf.JumpGreaterOrEqual: "jge", bpf.JumpBitsSet: "jset"}

// residual lists the tests that no program for the kernel can do.
func (f *Filter) residual() []string {
	all := deepOf(f.kernelRoot())
	slices.Sort(all)
	return slices.Compact(all)
}

// deepOf lists the tests that only the matcher can do.
func deepOf(n Node) (out []string) {
	switch n := n.(type) {
	case conj:
		for _, c := range n.x {
			out = append(out, deepOf(c)...)
		}
	case disj:
		for _, c := range n.x {
			out = append(out, deepOf(c)...)
		}
	case inv:
		return deepOf(n.x)
	case deep:
		return []string{n.text}
	}
	return out
}

// text writes a test as an expression on bytes.
func text(n Node) string {
	join := func(x []Node, op string) string {
		parts := make([]string, len(x))
		for i, c := range x {
			parts[i] = text(c)
			if _, ok := c.(disj); ok && op == " and " {
				parts[i] = "(" + parts[i] + ")"
			}
		}
		return strings.Join(parts, op)
	}
	switch n := n.(type) {
	case conj:
		return join(n.x, " and ")
	case disj:
		return join(n.x, " or ")
	case inv:
		return "not (" + text(n.x) + ")"
	case yes:
		return map[yes]string{true: "true", false: "false"}[n]
	case cmp:
		op := map[byte]string{'=': "=", '!': "!=", '>': ">", 'g': ">=", '&': "&"}[n.op]
		return valueText(n.l) + " " + op + " " + valueText(n.r)
	case set:
		return fmt.Sprintf("m%d := %s", n.slot, valueText(n.v))
	case deep:
		return "<" + n.text + ">"
	}
	return "?"
}

func valueText(v value) string {
	offset := func(k int, off value) string {
		if off == nil {
			return fmt.Sprint(k)
		}
		if k == 0 {
			return valueText(off)
		}
		return fmt.Sprintf("%s+%d", valueText(off), k)
	}
	switch v := v.(type) {
	case imm:
		return fmt.Sprintf("%#x", uint32(v))
	case length:
		return "len"
	case packetType:
		return "pkttype"
	case vlanPresent:
		return "vlan_present"
	case vlanTCI:
		return "vlan_tci"
	case vlanTPID:
		return "vlan_tpid"
	case slot:
		return fmt.Sprintf("m%d", int(v))
	case load:
		return fmt.Sprintf("[%s:%d]", offset(v.k, v.off), v.size)
	case header4:
		return fmt.Sprintf("ihl[%s]", offset(v.k, v.off))
	case calc:
		return fmt.Sprintf("(%s %s %s)", valueText(v.l), map[byte]string{'<': "<<", '>': ">>"}[v.op]+strings.Trim(string(v.op), "<>"), valueText(v.r))
	}
	return "?"
}
