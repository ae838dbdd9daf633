package groom

import (
	"encoding/binary"
	"fmt"

	"crosstap/internal/byteregexp"
	"crosstap/internal/dissect"
	"crosstap/internal/wire"
)

// mask overwrites parts of frames: ranges and matches with one byte, addresses with pseudonyms. Checksums follow the
// change; one that was wrong stays wrong.
type mask struct {
	acc      account
	spec     Mask
	patterns []*byteregexp.Regexp
	names    *pseudonyms
	reader   byteregexp.Reader
}

func newMask(s Mask) (*mask, error) {
	m := &mask{acc: newAccount("mask", nil, "frames masked", "matches of patterns masked"), spec: s}
	for _, p := range s.Patterns {
		re, err := byteregexp.Compile(p, false)
		if err != nil {
			return nil, fmt.Errorf("groom: mask: pattern %q: %w", p, err)
		}
		if re.Match(nil, &m.reader) {
			return nil, fmt.Errorf("groom: mask: pattern %q also matches nothing at all: make it ask for at least one byte", p)
		}
		m.patterns = append(m.patterns, re)
	}
	if s.Addresses || s.MACs {
		m.names = newPseudonyms(s.Key)
	}
	return m, nil
}

func (m *mask) account() *account { return &m.acc }

func (m *mask) apply(it *item) bool {
	it.packet()
	before, owned := it.f.Data, it.owned
	if owned {
		it.owned = false // the bytes as they were are needed for the checksums
	}
	for _, r := range m.spec.Ranges {
		from := r.From.find(it)
		if from >= len(it.f.Data) || from < 0 {
			continue
		}
		to := len(it.f.Data)
		if r.Len >= 0 {
			to = min(to, from+r.Len)
		}
		m.fill(it, from, to)
	}
	m.search(it, before)
	if m.names != nil {
		m.rename(it)
	}
	if !it.owned {
		it.owned = owned
		return true
	}
	m.acc.note(0)
	p := &it.pkt
	ls := p.Layers[:p.NLayers]
	ls = within(ls, len(before))
	follow(before, ls, it.f.OrigLen, it.f.Data, ls, it.f.OrigLen, func(i int) int { return i })
	followSCTP(before, it.f.Data, ls, it.f.OrigLen)
	return true
}

// within returns the layers that are there in full in a frame that was sliced.
func within(ls []dissect.Layer, n int) []dissect.Layer {
	for i, l := range ls {
		if end(l) > n {
			return ls[:i]
		}
	}
	return ls
}

func (m *mask) fill(it *item, from, to int) {
	if from >= to {
		return
	}
	b := it.own()[from:to]
	for i := range b {
		b[i] = m.spec.Fill
	}
}

// search masks what the patterns match in the innermost payload as it was before slicing and masking.
func (m *mask) search(it *item, before []byte) {
	if len(m.patterns) == 0 {
		return
	}
	text := before
	if it.whole != nil {
		text = it.whole
	}
	start := Place{Inner: true, Layer: L7}.find(it)
	if start >= len(text) {
		return
	}
	for _, re := range m.patterns {
		for at := start; at < len(text); {
			loc := re.Find(text[at:], &m.reader)
			if loc == nil || loc[1] == 0 {
				break
			}
			m.acc.note(1)
			m.fill(it, min(at+loc[0], len(it.f.Data)), min(at+loc[1], len(it.f.Data)))
			at += loc[1]
		}
	}
}

// followSCTP computes the CRC32c of SCTP packets anew where it was right: there is no way to follow a change by
// its difference.
func followSCTP(before, after []byte, ls []dissect.Layer, total int) {
	for i, l := range ls {
		ip := network(ls, i)
		if l.Kind != dissect.KindSCTP || l.Len < wire.SCTPLen || ip < 0 {
			continue
		}
		stop := total
		ipEnd(before, ls[ip], &stop)
		if stop > len(before) {
			continue
		}
		old := binary.LittleEndian.Uint32(before[l.Off+8:])
		if crcWithout(before[l.Off:stop]) == old {
			binary.LittleEndian.PutUint32(after[l.Off+8:], crcWithout(after[l.Off:stop]))
		}
	}
}
