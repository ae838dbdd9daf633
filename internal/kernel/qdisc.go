package kernel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Attributes of qdiscs (linux/rtnetlink.h, linux/pkt_sched.h).
const (
	tcaKind  = 1
	tcaStab  = 8
	stabBase = 1
)

// qdiscMark is the size table (struct tc_sizespec: two logarithms, an alignment, the overhead, the link layer, two limits, the length of the
// table) by which a clsact qdisc says that it is ours, from the moment in which it is made: it does nothing there, and is all that such a qdisc
// can keep. Its overhead is QdiscClass.
func qdiscMark() []byte {
	const ethernet = 1
	b := make([]byte, 4, 24)
	for _, v := range []uint32{QdiscClass, ethernet, 0, 0, 0} {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	return b
}

// QdiscMark is the attribute that gives a qdisc the mark.
func QdiscMark() *nl.RtAttr {
	stab := nl.NewRtAttr(tcaStab, nil)
	stab.AddRtAttr(stabBase, qdiscMark())
	return stab
}

// QdiscMarked reports whether the mark is among the attributes of a qdisc as the kernel tells it.
func QdiscMarked(attributes []byte) bool {
	all, err := nl.ParseRouteAttr(attributes)
	if err != nil {
		return false
	}
	stab, err := nl.ParseRouteAttr(valueOf(all, tcaStab))
	return err == nil && bytes.Equal(valueOf(stab, stabBase), qdiscMark())
}

// addQdisc makes a clsact qdisc of ours on an interface of the present thread's namespace, where there is none.
func addQdisc(index int) error {
	q := clsact(index)
	r := nl.NewNetlinkRequest(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	r.AddData(&nl.TcMsg{Family: unix.AF_UNSPEC, Ifindex: int32(index), Handle: q.Handle, Parent: q.Parent})
	r.AddData(nl.NewRtAttr(tcaKind, nl.ZeroTerminated(q.Type())))
	r.AddData(QdiscMark())
	_, err := r.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// marked returns the interfaces of the present thread's namespace whose clsact qdisc says that it is ours.
func marked() (map[int]bool, error) {
	list, err := whole(func() ([][]byte, error) {
		r := nl.NewNetlinkRequest(unix.RTM_GETQDISC, unix.NLM_F_DUMP)
		r.AddData(&nl.TcMsg{Family: unix.AF_UNSPEC})
		return r.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWQDISC)
	})
	if err != nil {
		return nil, fmt.Errorf("qdiscs: %w", err)
	}
	out := map[int]bool{}
	for _, b := range list {
		if m := nl.DeserializeTcMsg(b); m.Parent == clsact(0).Parent && QdiscMarked(b[m.Len():]) {
			out[int(m.Ifindex)] = true
		}
	}
	return out, nil
}

func valueOf(all []syscall.NetlinkRouteAttr, kind uint16) []byte {
	for _, a := range all {
		if a.Attr.Type&^nl.NLA_F_NESTED == kind {
			return a.Value
		}
	}
	return nil
}
