package dissect_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"crosstap/internal/dissect"
	"crosstap/internal/frame"
)

// check fails when p names anything outside the n bytes of its frame.
func check(t *testing.T, p *dissect.Packet, n int, what string) {
	t.Helper()
	end := 0
	for i, l := range p.Layers[:p.NLayers] {
		if int(l.Off) < end || l.Len == 0 || int(l.Off)+int(l.Len) > n || l.Kind == dissect.KindNone || int(l.Level) >= p.NLevels {
			t.Fatalf("%s: layer %d of %d bytes is wrong: %s", what, i, n, stack(p))
		}
		end = int(l.Off) + int(l.Len)
	}
	if p.NLevels < 1 || p.NLevels > dissect.MaxLevels {
		t.Fatalf("%s: %d levels", what, p.NLevels)
	}
	for i, f := range p.Levels[:p.NLevels] {
		for _, off := range []uint16{f.LinkOff, f.NetOff, f.TransOff, f.PayloadOff} {
			if int(off) > n {
				t.Fatalf("%s: level %d names offset %d of %d bytes", what, i, off, n)
			}
		}
		if !f.HasIP && (f.NetOff != 0 || f.TransOff != 0 || f.IPLen32 != 0) {
			t.Fatalf("%s: level %d has no IP, but offsets", what, i)
		}
	}
}

func TestEveryPrefix(t *testing.T) {
	d, p := dissect.New(dissect.Config{}), dirty()
	for _, c := range corpusFrames(t) {
		for n := range min(len(c.data), 400) + 1 {
			d.Dissect(p, c.link, c.data[:n:n], c.orig)
			check(t, p, n, c.file)
			d.Dissect(p, c.link, c.data[:n:n], n)
			check(t, p, n, c.file)
		}
		d.Dissect(p, c.link, c.data, c.orig)
		check(t, p, len(c.data), c.file)
	}
}

// A packet used before must not keep anything.
func TestReuse(t *testing.T) {
	d, used := dissect.New(dissect.Config{}), dirty()
	for _, c := range corpusFrames(t) {
		fresh := new(dissect.Packet)
		d.Dissect(fresh, c.link, c.data, c.orig)
		d.Dissect(used, c.link, c.data, c.orig)
		same := stack(fresh) == stack(used) && fresh.Issues == used.Issues && fresh.NLevels == used.NLevels
		for i := range fresh.NLevels {
			same = same && fresh.Levels[i] == used.Levels[i]
		}
		if !same {
			t.Fatalf("%s frame %d: a used packet gives\n%+v\na fresh one\n%+v", c.file, c.n, used, fresh)
		}
	}
}

// compareSingly fails when the readers of the single headers see another packet than Dissect.
func compareSingly(t *testing.T, d *dissect.Dissector, c captured) {
	t.Helper()
	var fast, slow dissect.Packet
	d.Dissect(&fast, c.link, c.data, c.orig)
	d.DissectSingly(&slow, c.link, c.data, c.orig)
	if fast != slow {
		t.Fatalf("%s frame %d: %+v\none header after the other: %+v", c.file, c.n, fast, slow)
	}
}

func TestPlainIsTheSame(t *testing.T) {
	d := dissect.New(dissect.Config{})
	for _, c := range corpusFrames(t) {
		compareSingly(t, d, c)
		for n := range min(len(c.data), 200) {
			compareSingly(t, d, captured{c.file, c.n, c.link, c.data[:n], c.orig})
			compareSingly(t, d, captured{c.file, c.n, c.link, c.data[:n], n})
		}
	}
}

// A changed byte anywhere must not part the two either.
func TestPlainIsTheSameOnDamage(t *testing.T) {
	d := dissect.New(dissect.Config{})
	for i, c := range cases {
		b := bytesOf(t, c.frame)
		for at := range b {
			for _, bit := range []byte{0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff} {
				b[at] ^= bit
				compareSingly(t, d, captured{c.name, i, c.link, b, len(b)})
				compareSingly(t, d, captured{c.name, i, c.link, b, len(b) + 1000})
				b[at] ^= bit
			}
		}
	}
}

func FuzzDissect(f *testing.F) {
	for _, s := range shapes {
		f.Add(uint16(1), uint32(0), bytesOf(f, s.frame))
	}
	for _, s := range cases {
		f.Add(uint16(s.link), uint32(0), bytesOf(f, s.frame))
	}
	d := dissect.New(dissect.Config{})
	n := dissect.New(dissect.Config{NVGRE: true, VXLANPorts: []uint16{53}, GenevePorts: []uint16{80}})
	p := dirty()
	f.Fuzz(func(t *testing.T, link uint16, more uint32, data []byte) {
		for _, d := range []*dissect.Dissector{d, n} {
			before := bytes.Clone(data)
			d.Dissect(p, frame.LinkType(link), data, len(data)+int(more%100000))
			check(t, p, len(data), "fuzz")
			compareSingly(t, d, captured{"fuzz", 0, frame.LinkType(link), data, len(data) + int(more%100000)})
			if !bytes.Equal(before, data) {
				t.Fatal("the frame was changed")
			}
		}
	})
}

// Data beyond 64 KiB is payload: no offset leaves its 16 bits.
func TestLongFrame(t *testing.T) {
	const n = 100_000
	data := append(bytesOf(t, eth4+ip4(6, 0)+tcp80), make([]byte, n)...)
	p := new(dissect.Packet)
	dissect.New(dissect.Config{}).Dissect(p, frame.LinkEthernet, data, len(data))
	check(t, p, len(data), "long frame")
	if got, want := p.Inner().IPLen32, uint32(n+40); got != want || p.Inner().IPLen != 0 || p.Issues != 0 {
		t.Errorf("IPLen32, IPLen, issues = %d, %d, %#x, want %d, 0, 0", got, p.Inner().IPLen, p.Issues, want)
	}
	tags := bytes.Repeat(binary.BigEndian.AppendUint32(nil, 0x81000001), n)
	dissect.New(dissect.Config{}).Dissect(p, frame.LinkEthernet, append(bytesOf(t, "020000000002 020000000001"), tags...), 4*n+12)
	check(t, p, 4*n+12, "endless tags")
	if p.NLayers != dissect.MaxLayers || p.Issues != dissect.Deep {
		t.Errorf("layers, issues = %d, %#x, want %d, Deep", p.NLayers, p.Issues, dissect.MaxLayers)
	}
}
