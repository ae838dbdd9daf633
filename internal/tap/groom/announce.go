package groom

import (
	"encoding/binary"

	"crosstap/internal/dissect"
	"crosstap/internal/wire"
)

// typeOf returns the EtherType that announces a header of kind k, 0 when there is none.
func typeOf(k dissect.Kind) uint16 {
	switch k {
	case dissect.KindIPv4:
		return wire.TypeIPv4
	case dissect.KindIPv6:
		return wire.TypeIPv6
	case dissect.KindARP:
		return wire.TypeARP
	case dissect.KindVLAN:
		return wire.TypeVLAN
	case dissect.KindVNTag:
		return wire.TypeVNTag
	case dissect.KindETag:
		return wire.TypeETag
	case dissect.KindPBB:
		return wire.TypePBB
	case dissect.KindMPLS:
		return wire.TypeMPLS
	case dissect.KindPPPoE:
		return wire.TypePPPoE
	case dissect.KindPPP:
		return wire.TypePPP
	case dissect.KindNSH:
		return wire.TypeNSH
	case dissect.KindEthernet:
		return wire.TypeTEB
	}
	return 0
}

// announced returns the type that stands in front of layer i, which tells VLAN tags of different kinds and
// lengths apart; without one, that of the layer's kind.
func announced(b []byte, ls []dissect.Layer, i int) uint16 {
	if i > 0 {
		if at := typeAt(ls[i-1]); at >= 0 {
			return binary.BigEndian.Uint16(b[at:])
		}
	}
	return typeOf(ls[i].Kind)
}

// typeAt returns the offset of the EtherType by which a header announces the next one, -1 when it has none.
func typeAt(l dissect.Layer) int {
	switch l.Kind {
	case dissect.KindEthernet, dissect.KindVLAN, dissect.KindVNTag, dissect.KindETag, dissect.KindSNAP:
		return end(l) - 2
	case dissect.KindSLL:
		return end(l) - 2
	case dissect.KindSLL2:
		return int(l.Off)
	case dissect.KindGRE, dissect.KindNVGRE, dissect.KindGeneve:
		return int(l.Off) + 2
	}
	return -1
}

// nextProtocol returns the number that VXLAN-GPE and NSH give a header, 0 for none.
func nextProtocol(k dissect.Kind) uint8 {
	switch k {
	case dissect.KindIPv4:
		return wire.GPEIPv4
	case dissect.KindIPv6:
		return wire.GPEIPv6
	case dissect.KindEthernet:
		return wire.GPEEthernet
	case dissect.KindNSH:
		return wire.GPENSH
	case dissect.KindMPLS:
		return wire.GPEMPLS
	}
	return 0
}

// announces reports whether a header of kind a can stand in front of one of kind k.
func announces(a, k dissect.Kind) bool {
	switch a {
	case dissect.KindEthernet, dissect.KindVLAN, dissect.KindVNTag, dissect.KindETag, dissect.KindSNAP, dissect.KindSLL, dissect.KindSLL2:
		return k != dissect.KindEthernet && (typeOf(k) != 0 || k == dissect.KindLLC)
	case dissect.KindGRE, dissect.KindNVGRE, dissect.KindGeneve:
		return typeOf(k) != 0
	case dissect.KindVXLANGPE, dissect.KindNSH:
		return nextProtocol(k) != 0
	case dissect.KindVXLAN, dissect.KindERSPAN2, dissect.KindERSPAN3, dissect.KindTZSP, dissect.KindEtherIP, dissect.KindPBB, dissect.KindControlWord:
		return k == dissect.KindEthernet
	case dissect.KindGTPU:
		return k == dissect.KindIPv4 || k == dissect.KindIPv6
	case dissect.KindMPLS: // a stack names nothing
		return k == dissect.KindIPv4 || k == dissect.KindIPv6 || k == dissect.KindEthernet
	}
	return false
}

// announce makes the header l say that one of kind k and type t follows.
func announce(b []byte, l dissect.Layer, k dissect.Kind, t uint16) {
	if at := typeAt(l); at >= 0 {
		switch {
		case k == dissect.KindEthernet:
			t = wire.TypeTEB
		case k == dissect.KindLLC && (l.Kind == dissect.KindSLL || l.Kind == dissect.KindSLL2):
			t = wire.SLL8022
		}
		binary.BigEndian.PutUint16(b[at:], t)
		return
	}
	switch l.Kind {
	case dissect.KindVXLANGPE:
		b[l.Off] |= 0x04 // P: the next protocol is there
		b[l.Off+3] = nextProtocol(k)
	case dissect.KindNSH:
		b[l.Off+3] = nextProtocol(k)
	}
}
