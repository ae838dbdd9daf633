package filter

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
)

// maker builds random frames that hit the branches of the expressions.
type maker struct{ r *rand.Rand }

func (m maker) pick(b ...string) []byte {
	out, err := hex.DecodeString(b[m.r.IntN(len(b))])
	if err != nil {
		panic(err)
	}
	return out
}

func (m maker) ethernet(deep int) []byte {
	b := append(m.pick("020000000001", "020000000002", "ffffffffffff", "01005e000001"), m.pick("020000000001", "020000000002")...)
	return append(b, m.typed(deep)...)
}

func (m maker) typed(deep int) []byte {
	switch n := m.r.IntN(20); {
	case n < 7:
		return append(m.pick("0800"), m.ipv4(deep)...)
	case n < 11:
		return append(m.pick("86dd"), m.ipv6(deep)...)
	case n < 14 && deep > 0:
		return append(m.pick("8100000a", "88a80014", "91000000", "8100300a"), m.typed(deep-1)...)
	case n < 15: // ARP and RARP, sender 02:…:01
		b := append(m.pick("08060001080006040001020000000001", "80350001080006040002020000000001"), m.addr4()...)
		return append(append(b, make([]byte, 6)...), m.addr4()...)
	case n < 17:
		return append(append(m.pick("8847"), m.pick("00064140", "0006404000065140", "00065140")...), m.anyIP(deep)...)
	case n < 18:
		return append(m.pick("88641100000500400021", "88641100000600400057"), m.anyIP(deep)...)
	case n < 19:
		return append(m.pick("0026424203", "0026fefe03", "0026aaaa030000000800", "88cc0207", "8926400900034500", "893f000000050000"), m.anyIP(deep)...)
	}
	return append(m.pick("8926400900030800", "893f0000000500000800"), m.ipv4(deep)...)
}

func (m maker) anyIP(deep int) []byte {
	if m.r.IntN(2) == 0 {
		return m.ipv4(deep)
	}
	return m.ipv6(deep)
}

func (m maker) addr4() []byte {
	return m.pick("0a000001", "0a000002", "0a010203", "c0a80001", "e0000001")
}
func (m maker) addr6() []byte {
	return m.pick("fd000000000000000000000000000001", "fd000000000000000000000000000002", "ff020000000000000000000000000001", "20010db8000000000000000000000001")
}

func (m maker) ipv4(deep int) []byte {
	p, body := m.transport(deep, false)
	words := 5 + m.r.IntN(2)
	b := make([]byte, 4*words)
	b[0], b[8], b[9] = 0x40|byte(words), byte(m.r.IntN(256)), p
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)+len(body)))
	copy(b[6:], m.pick("0000", "0000", "0000", "4000", "2000", "0010"))
	copy(b[12:], m.addr4())
	copy(b[16:], m.addr4())
	return append(b, body...)
}

func (m maker) ipv6(deep int) []byte {
	p, body := m.transport(deep, true)
	if m.r.IntN(5) == 0 {
		body = append([]byte{p, 0, 0, 0, 0, 0, 0, 1}, body...)
		p = 44
	}
	b := make([]byte, 8, 40)
	b[0], b[6], b[7] = 0x60, p, 64
	binary.BigEndian.PutUint16(b[4:], uint16(len(body)))
	return append(append(append(b, m.addr6()...), m.addr6()...), body...)
}

func (m maker) transport(deep int, v6 bool) (byte, []byte) {
	ports := func(n int) []byte {
		b := make([]byte, n+m.r.IntN(40))
		copy(b, append(m.pick("0050", "01bb", "0035", "05dc", "c000"), m.pick("0050", "01bb", "0035", "12b5", "17c1")...))
		return b
	}
	switch n := m.r.IntN(16); {
	case n < 5:
		b := ports(20)
		b[12], b[13] = 0x50, m.pick("02", "12", "10", "11", "18")[0]
		return 6, b
	case n < 8:
		b := ports(8)
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
		return 17, b
	case n < 9:
		if v6 {
			return 58, m.pick("8000000000010001", "8700000000000000")
		}
		return 1, m.pick("0800000000010001", "0000000000010001", "0301000000000000")
	case n < 10:
		return m.pick("02", "33", "32", "67", "70", "84")[0], ports(12)
	case n < 11:
		return 47, append(m.pick("00000800", "2000080000000007", "a0000800ffff000000000007", "100088be00000001100a0005", "2000655800000008"), m.anyIP(0)...)
	case deep > 0 && n < 14:
		return 17, append(append(m.pick("c00012b500500000", "c00012b500500000"), m.pick("0800000000138900", "0800000000138a00", "0c00000000138900")...), m.ethernet(deep-1)...)
	case deep > 0:
		return 17, append(append(m.pick("c00017c100500000"), m.pick("0000655800138900", "0100655800138900aabbccdd", "0000655800138a00")...), m.ethernet(deep-1)...)
	}
	return 17, ports(8)
}

func (m maker) frame() []byte {
	b := m.ethernet(2)
	switch m.r.IntN(10) {
	case 0: // cut
		b = b[:max(1, m.r.IntN(len(b)))]
	case 1: // damaged
		b[m.r.IntN(len(b))] ^= byte(1 << m.r.IntN(8))
	}
	return b
}
