package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
)

// governor is the program of a ring that counts and leaves out. What it does is in its map's memory, so that it can be changed without any
// privilege and between two frames.
type governor struct {
	prog *ebpf.Program
	data *ebpf.Map
	mem  *ebpf.Memory
}

// Layout of the map's value: counters of each processor, and the order behind them.
const (
	lanes                                            = 64
	laneBytes                                        = 64
	countSeen, countMatched, countBytes, countPassed = 0, 8, 16, 24
	orderAt                                          = lanes * laneBytes // threshold in the upper, bytes to keep in the lower 32 bits
	stackKeep, stackOrder                            = int16(-72), int16(-80)
	symGate, symSampled, symKeep, symDrop, symOut    = "gate", "sampled", "keep", "drop", "out"
)

// translator makes eBPF of a classic program, with the context in R6, X in R7 and A in R0; R9 is left alone.
type translator = func([]bpf.Instruction) (asm.Instructions, error)

// newGovernor loads the program for a filter.
func newGovernor(classic []bpf.RawInstruction, link frame.LinkType, to translator) (*governor, error) {
	g := &governor{}
	var err error
	g.data, err = ebpf.NewMap(&ebpf.MapSpec{Name: "crosstap_shed", Type: ebpf.Array, KeySize: 4, ValueSize: orderAt + 8, MaxEntries: 1, Flags: unix.BPF_F_MMAPABLE})
	if err != nil {
		return nil, counting(err)
	}
	if g.mem, err = g.data.Memory(); err == nil {
		var code asm.Instructions
		if code, err = governed(classic, link, g.data.FD(), to); err == nil {
			g.prog, err = ebpf.NewProgram(&ebpf.ProgramSpec{Name: "crosstap_shed", Type: ebpf.SocketFilter, Instructions: code, License: "GPL"})
		}
	}
	if err != nil {
		g.close()
		return nil, counting(err)
	}
	return g, nil
}

// counting says which right is missing, instead of the limits that the kernel had before it knew that right.
func counting(err error) error {
	if v := (*ebpf.VerifierError)(nil); errors.As(err, &v) || !errors.Is(err, os.ErrPermission) {
		return err
	}
	return fmt.Errorf("%w: a program that counts needs CAP_BPF: run as root, or once \"setcap cap_bpf,cap_net_raw+ep\" on the program", os.ErrPermission)
}

func (g *governor) close() {
	if g.prog != nil {
		_ = g.prog.Close()
	}
	_ = g.data.Close()
}

// governed returns the program: the filter, the counters, and what the order says.
func governed(raw []bpf.RawInstruction, link frame.LinkType, fd int, to translator) (asm.Instructions, error) {
	classic := []bpf.Instruction{bpf.RetConstant{Val: everything}}
	if len(raw) > 0 {
		all := false
		if classic, all = bpf.Disassemble(raw); !all {
			return nil, errors.New("the filter has instructions without a translation")
		}
	}
	first, err := translated(to, classic, "f", symGate)
	if err != nil {
		return nil, err
	}
	number, err := sampler(link)
	if err != nil {
		return nil, err
	}
	second, err := translated(to, number, "s", symSampled)
	if err != nil {
		return nil, err
	}
	count := func(at int16) asm.Instructions {
		return asm.Instructions{asm.Mov.Imm(asm.R1, 1), asm.AddAtomic.Mem(asm.R9, asm.R1, asm.DWord, at)}
	}
	code := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1), asm.FnGetSmpProcessorId.Call(), asm.And.Imm(asm.R0, lanes-1), asm.LSh.Imm(asm.R0, 6),
		asm.LoadMapValue(asm.R9, fd, 0), asm.Add.Reg(asm.R9, asm.R0),
	}
	code = append(code, count(countSeen)...)
	code = append(code, asm.Mov.Imm(asm.R0, 0), asm.Mov.Imm(asm.R7, 0))
	code = append(code, first...)
	code = append(code, asm.JEq.Imm(asm.R0, 0, symOut).WithSymbol(symGate), asm.StoreMem(asm.RFP, stackKeep, asm.R0, asm.DWord))
	code = append(code, count(countMatched)...)
	code = append(code,
		asm.LoadMem(asm.R1, asm.R6, 0, asm.Word), // len
		asm.AddAtomic.Mem(asm.R9, asm.R1, asm.DWord, countBytes),
		asm.LoadMapValue(asm.R1, fd, orderAt), asm.LoadMem(asm.R2, asm.R1, 0, asm.DWord), asm.StoreMem(asm.RFP, stackOrder, asm.R2, asm.DWord),
		asm.RSh.Imm(asm.R2, 32), asm.JEq.Imm(asm.R2, 0, symKeep), asm.Mov.Imm(asm.R0, 0), asm.Mov.Imm(asm.R7, 0))
	code = append(code, second...)
	code = append(code,
		asm.LoadMem(asm.R2, asm.RFP, stackOrder, asm.DWord).WithSymbol(symSampled), asm.RSh.Imm(asm.R2, 32),
		asm.Mov.Reg32(asm.R0, asm.R0), asm.JGT.Reg(asm.R0, asm.R2, symDrop))
	kept := count(countPassed)
	kept[0] = kept[0].WithSymbol(symKeep)
	code = append(code, kept...)
	return append(code,
		asm.LoadMem(asm.R0, asm.RFP, stackKeep, asm.DWord), asm.LoadMem(asm.R2, asm.RFP, stackOrder, asm.DWord), asm.Mov.Reg32(asm.R2, asm.R2),
		asm.JEq.Imm(asm.R2, 0, symOut), asm.JLE.Reg(asm.R0, asm.R2, symOut), asm.Mov.Reg(asm.R0, asm.R2), asm.Ja.Label(symOut),
		asm.Mov.Imm(asm.R0, 0).WithSymbol(symDrop), asm.Return().WithSymbol(symOut)), nil
}

// translated returns a classic program with labels of its own, that goes on at a label instead of returning.
func translated(to translator, classic []bpf.Instruction, prefix, then string) (asm.Instructions, error) {
	code, err := to(classic)
	if err != nil {
		return nil, err
	}
	for i, ins := range code {
		sym := ins.Symbol()
		if ins.OpCode.JumpOp() == asm.Exit {
			ins = asm.Ja.Label(then)
		} else if ref := ins.Reference(); ref != "" {
			ins = ins.WithReference(prefix + ref)
		}
		if sym != "" {
			ins = ins.WithSymbol(prefix + sym)
		}
		code[i] = ins
	}
	return code, nil
}

// set writes the order. One store: no frame sees half of it.
func (g *governor) set(s Shed) error {
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], uint64(s.threshold())<<32|uint64(uint32(s.Snap)))
	_, err := g.mem.WriteAt(b[:], orderAt)
	return err
}

// counts adds up the counters of all processors.
func (g *governor) counts() (k Kernel) {
	var b [lanes * laneBytes]byte
	if _, err := g.mem.ReadAt(b[:], 0); err != nil {
		return k
	}
	ne := binary.NativeEndian
	for at := 0; at < len(b); at += laneBytes {
		k.add(Kernel{Seen: ne.Uint64(b[at+countSeen:]), Matched: ne.Uint64(b[at+countMatched:]), Bytes: ne.Uint64(b[at+countBytes:]), Passed: ne.Uint64(b[at+countPassed:])})
	}
	return k
}
