//go:build linux

package linux

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"crosstap/internal/control/platform"
	"crosstap/internal/kernel"
)

// Where our filters are: at one preference of the hooks of a clsact qdisc (linux/pkt_sched.h).
const (
	preference    = 5
	keepPlace     = 49151 // of a filter that keeps a qdisc; the kernel gives those that it chooses itself from above down to 49152
	qdiscHandle   = 0xffff0000
	qdiscParent   = 0xfffffff1 // TC_H_CLSACT, and TC_H_INGRESS
	parentIngress = 0xfffffff2 // TC_H_MIN_INGRESS
	parentEgress  = 0xfffffff3 // TC_H_MIN_EGRESS
	protocolAll   = 0x0003     // ETH_P_ALL
)

// Attributes that the kernel's headers name and our library does not.
const (
	mirredMirror   = 2 // TCA_EGRESS_MIRROR
	actContinue    = -1
	actPipe        = 3
	mirredParms    = 2
	mirredLen      = 28
	basicStats     = 1 // gnet_stats_basic
	queueStats     = 3 // gnet_stats_queue
	basicStats64   = 8 // TCA_STATS_PKT64
	tcaKind        = 1
	tcaOptions     = 2
	actKind        = 1
	actOptions     = 2
	actStats       = 4
	actCookie      = 6
	bpfAct         = 1
	bpfClass       = 3
	bpfOpsLen      = 4
	bpfOps         = 5
	bpfName        = 7
	instructionLen = 8
)

// hook is a place at which filters look at packets.
func hook(d platform.Direction) (parent uint32) {
	if d == platform.Egress {
		return parentEgress
	}
	return parentIngress
}

// tcMessage is struct tcmsg.
func tcMessage(index int, handle, parent, info uint32) *nl.TcMsg {
	return &nl.TcMsg{Family: unix.AF_UNSPEC, Ifindex: int32(index), Handle: handle, Parent: parent, Info: info}
}

// addQdisc makes a clsact qdisc where there is none. By its size table, which does nothing there, it says from the first moment that it is ours:
// the filters that come with it may fail, such as when the process is killed while the kernel gets memory for them.
func addQdisc(index int, about string) *request {
	return &request{
		kind: unix.RTM_NEWQDISC, flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL, about: about,
		parts: []nl.NetlinkRequestData{tcMessage(index, qdiscHandle, qdiscParent, 0), nl.NewRtAttr(tcaKind, nl.ZeroTerminated("clsact")), kernel.QdiscMark()},
	}
}

func deleteQdisc(index int, about string) *request {
	return &request{
		kind: unix.RTM_DELQDISC, about: about,
		parts: []nl.NetlinkRequestData{tcMessage(index, qdiscHandle, qdiscParent, 0), nl.NewRtAttr(tcaKind, nl.ZeroTerminated("clsact"))},
	}
}

// filterInfo is preference and protocol, the latter in network order.
func filterInfo(preference, protocol uint16) uint32 {
	return uint32(preference)<<16 | uint32(nl.Swap16(protocol))
}

// setFilter makes a filter, or puts it in the place of the one with its handle: the kernel changes between two packets. As its cookie does, it
// tells by its class that the qdisc is ours.
func setFilter(index int, f *filterSpec, targets []int, about string) (*request, error) {
	code, err := parseCode(f.Code)
	if err != nil {
		return nil, err
	}
	cookie, err := hex.DecodeString(f.Cookie)
	if err != nil {
		return nil, fmt.Errorf("cookie %q: %w", f.Cookie, err)
	}
	options := nl.NewRtAttr(tcaOptions, nil)
	options.AddRtAttr(bpfOpsLen, nl.Uint16Attr(uint16(len(code)/instructionLen)))
	options.AddRtAttr(bpfOps, code)
	if c, _ := cookieFrom(cookie); c.qdisc {
		options.AddRtAttr(bpfClass, nl.Uint32Attr(kernel.QdiscClass))
	}
	actions := options.AddRtAttr(bpfAct, nil)
	for i, target := range targets {
		verdict := int32(actPipe)
		if i == len(targets)-1 {
			verdict = actContinue
		}
		a := actions.AddRtAttr(i+1, nil)
		a.AddRtAttr(actKind, nl.ZeroTerminated("mirred"))
		a.AddRtAttr(actOptions, nil).AddRtAttr(mirredParms, mirror(verdict, target))
		a.AddRtAttr(actCookie, cookie)
	}
	return &request{
		kind: unix.RTM_NEWTFILTER, flags: unix.NLM_F_CREATE, about: about,
		parts: []nl.NetlinkRequestData{tcMessage(index, f.Handle, hook(f.Dir), filterInfo(preference, protocolAll)), nl.NewRtAttr(tcaKind, nl.ZeroTerminated("bpf")), options},
	}, nil
}

// mirror is struct tc_mirred: index, capabilities, verdict, two counts, what it does, the device.
func mirror(verdict int32, target int) []byte {
	b := make([]byte, 0, mirredLen)
	for _, v := range []uint32{0, 0, uint32(verdict), 0, 0, mirredMirror, uint32(target)} {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	return b
}

func deleteFilter(index int, dir platform.Direction, handle uint32, about string) *request {
	return &request{
		kind: unix.RTM_DELTFILTER, about: about,
		parts: []nl.NetlinkRequestData{tcMessage(index, handle, hook(dir), filterInfo(preference, protocolAll)), nl.NewRtAttr(tcaKind, nl.ZeroTerminated("bpf"))},
	}
}

// qdiscs lists the ingress and clsact qdiscs by interface, and which of them say by themselves that they are ours.
func (s *socket) qdiscs() (out map[int]string, ours map[int]bool, err error) {
	out, ours = map[int]string{}, map[int]bool{}
	r := &request{kind: unix.RTM_GETQDISC, about: "list qdiscs", parts: []nl.NetlinkRequestData{tcMessage(0, 0, 0, 0)}}
	err = s.dump(r, func(b []byte) error {
		if len(b) < nl.SizeofTcMsg {
			return nil
		}
		m, all := nl.DeserializeTcMsg(b), attrs(b[nl.SizeofTcMsg:])
		kind, _ := find(all, tcaKind)
		if k := text(kind); m.Parent == qdiscParent && (k == "clsact" || k == "ingress") {
			out[int(m.Ifindex)] = k
		}
		if m.Parent == qdiscParent && kernel.QdiscMarked(b[nl.SizeofTcMsg:]) {
			ours[int(m.Ifindex)] = true
		}
		return nil
	})
	return out, ours, err
}

// tcFilter is a filter as the kernel tells it.
type tcFilter struct {
	index      int
	dir        platform.Direction
	preference uint16
	protocol   uint16
	handle     uint32
	kind       string
	name       string // of cls_bpf with a program that has one
	class      uint32 // of cls_bpf
	code       string // of cls_bpf with classic code, as tc writes it
	mirrors    []tcMirror
	actions    []string // kinds
}

// tcMirror is a mirred action that copies or redirects.
type tcMirror struct {
	target   int // 0 when the device is gone
	redirect bool
	cookie   []byte
	packets  uint64
	bytes    uint64
	drops    uint64
	last     bool // its verdict is "continue"
}

// filters lists the filters of one hook. Without a qdisc there are none.
func (s *socket) filters(index int, dir platform.Direction) (out []tcFilter, err error) {
	r := &request{kind: unix.RTM_GETTFILTER, about: "list filters", parts: []nl.NetlinkRequestData{tcMessage(index, 0, hook(dir), 0)}}
	err = s.dump(r, func(b []byte) error {
		if len(b) < nl.SizeofTcMsg {
			return nil
		}
		m := nl.DeserializeTcMsg(b)
		f := tcFilter{index: int(m.Ifindex), dir: dir, preference: uint16(m.Info >> 16), protocol: nl.Swap16(uint16(m.Info)), handle: m.Handle}
		f.read(attrs(b[nl.SizeofTcMsg:]))
		if m.Handle != 0 { // zero stands for the preference itself
			out = append(out, f)
		}
		return nil
	})
	return out, err
}

// actsOf says where the actions are among the options of each kind of filter.
var actsOf = map[string]uint16{"bpf": bpfAct, "matchall": 2, "flower": 3, "u32": 7, "basic": 3, "fw": 4}

func (f *tcFilter) read(all []attr) {
	kind, _ := find(all, tcaKind)
	f.kind = text(kind)
	b, _ := find(all, tcaOptions)
	options := attrs(b)
	if f.kind == "bpf" {
		code, _ := find(options, bpfOps)
		f.code = codeText(code)
		name, _ := find(options, bpfName)
		f.name = text(name)
		if class, ok := find(options, bpfClass); ok && len(class) == 4 {
			f.class = binary.NativeEndian.Uint32(class)
		}
	}
	acts, _ := find(options, actsOf[f.kind])
	for _, a := range attrs(acts) {
		f.action(attrs(a.value))
	}
}

func (f *tcFilter) action(all []attr) {
	b, _ := find(all, actKind)
	kind := text(b)
	f.actions = append(f.actions, kind)
	if kind != "mirred" {
		return
	}
	options, _ := find(all, actOptions)
	parms, _ := find(attrs(options), mirredParms)
	if len(parms) < mirredLen {
		return
	}
	verdict := int32(binary.NativeEndian.Uint32(parms[8:]))
	doing := binary.NativeEndian.Uint32(parms[20:])
	m := tcMirror{target: int(binary.NativeEndian.Uint32(parms[24:])), redirect: doing == 1 || doing == 3, last: verdict == actContinue}
	if cookie, ok := find(all, actCookie); ok {
		m.cookie = append([]byte(nil), cookie...)
	}
	stats, _ := find(all, actStats)
	for _, a := range attrs(stats) {
		switch {
		case a.kind == basicStats && len(a.value) >= 12:
			m.bytes = binary.NativeEndian.Uint64(a.value)
			m.packets = max(m.packets, uint64(binary.NativeEndian.Uint32(a.value[8:])))
		case a.kind == basicStats64 && len(a.value) >= 8:
			m.packets = max(m.packets, binary.NativeEndian.Uint64(a.value))
		case a.kind == queueStats && len(a.value) >= 20: // qlen, backlog, drops, requeues, overlimits
			m.drops = uint64(binary.NativeEndian.Uint32(a.value[8:])) + uint64(binary.NativeEndian.Uint32(a.value[16:]))
		}
	}
	f.mirrors = append(f.mirrors, m)
}

// codeText writes a classic program as tc takes it: the number of instructions, then "code jt jf k" for each.
func codeText(b []byte) string {
	var out strings.Builder
	out.WriteString(strconv.Itoa(len(b) / instructionLen))
	for ; len(b) >= instructionLen; b = b[instructionLen:] {
		fmt.Fprintf(&out, ",%d %d %d %d", binary.NativeEndian.Uint16(b), b[2], b[3], binary.NativeEndian.Uint32(b[4:]))
	}
	return out.String()
}

// assembled writes a program as tc takes it.
func assembled(prog []bpf.Instruction) (string, error) {
	raw, err := bpf.Assemble(prog)
	if err != nil {
		return "", err
	}
	b := make([]byte, 0, len(raw)*instructionLen)
	for _, r := range raw {
		b = binary.NativeEndian.AppendUint16(b, r.Op)
		b = append(b, r.Jt, r.Jf)
		b = binary.NativeEndian.AppendUint32(b, r.K)
	}
	return codeText(b), nil
}

// parseCode reads the text of codeText.
func parseCode(text string) ([]byte, error) {
	count, rest, _ := strings.Cut(text, ",")
	n, err := strconv.Atoi(count)
	if err != nil || n < 1 || n > 4096 {
		return nil, fmt.Errorf("program of %q instructions: 1 to 4096", count)
	}
	b := make([]byte, 0, n*instructionLen)
	for line := range strings.SplitSeq(rest, ",") {
		var op uint16
		var jt, jf uint8
		var k uint32
		if _, err := fmt.Sscan(line, &op, &jt, &jf, &k); err != nil {
			return nil, fmt.Errorf("instruction %q: %w", line, err)
		}
		b = binary.NativeEndian.AppendUint16(b, op)
		b = append(b, jt, jf)
		b = binary.NativeEndian.AppendUint32(b, k)
	}
	if len(b) != n*instructionLen {
		return nil, fmt.Errorf("program: %d instructions, %d announced", len(b)/instructionLen, n)
	}
	return b, nil
}
