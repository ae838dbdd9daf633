package dissect

import (
	"crosstap/internal/flow"
	"crosstap/internal/wire"
)

// Address families of loopback captures; that of IPv6 differs from system to system.
const (
	familyIPv4        = 2
	familyIPv6Linux   = 10
	familyIPv6BSD     = 24
	familyIPv6FreeBSD = 28
	familyIPv6Darwin  = 30
)

func (w *walk) null() Kind {
	h := wire.Null(w.rest())
	if !h.Valid() {
		return w.short(KindNull, wire.NullLen)
	}
	w.linked = true
	w.push(KindNull, wire.NullLen)
	switch h.Family() {
	case familyIPv4:
		return KindIPv4
	case familyIPv6Linux, familyIPv6BSD, familyIPv6FreeBSD, familyIPv6Darwin:
		return KindIPv6
	}
	return w.unsupported()
}

func (w *walk) sll() Kind {
	h := wire.SLL(w.rest())
	if !h.Valid() {
		return w.short(KindSLL, wire.SLLLen)
	}
	w.push(KindSLL, wire.SLLLen)
	return w.cooked(h.Addr(), h.Hardware(), h.Protocol())
}

func (w *walk) sll2() Kind {
	h := wire.SLL2(w.rest())
	if !h.Valid() {
		return w.short(KindSLL2, wire.SLL2Len)
	}
	w.push(KindSLL2, wire.SLL2Len)
	return w.cooked(h.Addr(), h.Hardware(), h.Protocol())
}

// cooked takes what both cooked headers say. They have no destination address.
func (w *walk) cooked(addr []byte, hardware, protocol uint16) Kind {
	w.linked = true
	if len(addr) == 6 {
		w.lv.SrcMAC = flow.MACFrom(addr)
	}
	switch {
	case hardware == wire.ARPHRDNetlink || hardware == wire.ARPHRDFrameRelay,
		hardware >= wire.ARPHRDRadio && hardware <= wire.ARPHRDRadioLast:
		return w.unsupported()
	case protocol == wire.SLL8022:
		return KindLLC
	case protocol < wire.MinType:
		return w.unsupported()
	}
	return w.typed(protocol)
}
