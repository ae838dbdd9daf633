package tap_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/tap"
	"crosstap/internal/tap/groom"
	"crosstap/internal/testkit"
)

// ngWriter writes pcapng blocks by hand.
type ngWriter struct {
	binary.AppendByteOrder
	b []byte
}

func (w *ngWriter) option(code int, value string) string {
	b := w.AppendUint16(nil, uint16(code))
	b = w.AppendUint16(b, uint16(len(value)))
	return string(b) + value + strings.Repeat("\x00", -len(value)&3)
}

func (w *ngWriter) words(v ...uint32) (s string) {
	for _, x := range v {
		s += string(w.AppendUint32(nil, x))
	}
	return s
}

func (w *ngWriter) block(kind uint32, parts ...string) {
	body := strings.Join(parts, "")
	n := uint32(len(body) + 12)
	w.b = append(w.b, w.words(kind, n)+body+w.words(n)...)
}

// described writes a section with everything that a capture says beside its frames.
func (w *ngWriter) described(name string) {
	u64 := func(v uint64) string { return string(w.AppendUint64(nil, v)) }
	end := w.words(0)
	w.block(0x0a0d0d0a, w.words(0x1a2b3c4d), string(w.AppendUint16(w.AppendUint16(nil, 1), 0)), w.words(0xffffffff, 0xffffffff),
		w.option(1, "section "+name), w.option(1, "again"), w.option(2, "the hardware"), w.option(3, "the system"), w.option(4, "the program"), end)
	ethernet := string(w.AppendUint16(w.AppendUint16(nil, 1), 0))
	w.block(1, ethernet, w.words(65535), w.option(2, "eth7"), w.option(3, "uplink"), w.option(1, "left port"), w.option(6, "\x02\x00\x00\x00\x00\x07"),
		w.option(8, u64(1e9)), w.option(9, "\x06"), w.option(11, "\x00ip"), w.option(12, "its system"), w.option(15, "its hardware"), end)
	w.block(1, ethernet, w.words(128), w.option(2, "eth8"), w.option(9, "\x09"), w.option(14, u64(3600)), end)
	w.block(4, w.option(1, "\x0a\x00\x00\x01alpha.example\x00"), w.option(2, strings.Repeat("\x00", 15)+"\x01six.example\x00"), end)
	w.block(10, w.words(0x544c534b, 5), "key 1\x00\x00\x00")
	frame := "\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x88\xb5 hello"
	w.block(6, w.words(0, 0x60a24, 0x181e4000, 20, 20), frame)
	w.block(10, w.words(0x544c534b, 8), "key 2 "+name+"\n")
	w.block(6, w.words(0, 0x60a24, 0x181e4001, 20, 20), frame)
	w.block(5, w.words(0, 0, 0), w.option(5, u64(3)), w.option(7, u64(4)), end)
	w.block(5, w.words(0, 0, 0), w.option(5, u64(7)), w.option(7, u64(9)), end)
}

// said lists what a little-endian pcapng file says, without times and units, a line for each block.
func said(t *testing.T, path string) (all []string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	for len(b) >= 12 {
		kind, n := le.Uint32(b), le.Uint32(b[4:])
		body := b[8 : n-4]
		b = b[n:]
		line := fmt.Sprintf("%x", kind)
		fixed, ok := map[uint32]int{0x0a0d0d0a: 16, 1: 8, 5: 12}[kind]
		if kind == 4 || kind == 10 {
			line += fmt.Sprintf(" %q", body)
		}
		for o := body[fixed:]; ok && len(o) >= 4 && le.Uint16(o) != 0; {
			code, size := le.Uint16(o), int(le.Uint16(o[2:]))
			if v := o[4 : 4+size]; code != 9 && !(kind == 5 && code != 5 && code != 7) {
				line += fmt.Sprintf(" %d=%q", code, v)
			}
			o = o[4+size+(-size&3):]
		}
		all = append(all, line)
	}
	return all
}

// copyOf makes a pcapng copy of a capture, and delivers to others beside.
func copyOf(t *testing.T, in, expr, to, steps string, others ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out.pcapng")
	s := tap.DefaultSpec()
	s.File, s.Filter, s.To = in, expr, append([]string{"pcapng:" + out + to}, others...)
	if steps != "" {
		g, err := groom.Parse(steps)
		if err != nil {
			t.Fatal(err)
		}
		s.Groom = &g
	}
	line, err := tap.New(s)
	if err == nil {
		err = line.Run(context.Background())
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestDescribedCapture has what a capture says of itself, of its interfaces and beside its frames stand in the copy, of either byte order, as editcap keeps it.
func TestDescribedCapture(t *testing.T) {
	const (
		section = `a0d0d0a 1="section A" 1="again" 2="the hardware" 3="the system" 4="the program"`
		eth7    = `1 2="eth7" 3="uplink" 1="left port" 6="\x02\x00\x00\x00\x00\a" 8="\x00ʚ;\x00\x00\x00\x00" 11="\x00ip" 12="its system" 15="its hardware"`
		eth8    = `1 2="eth8"`
		names   = `4 "\x01\x00\x12\x00\n\x00\x00\x01alpha.example\x00\x00\x00\x02\x00\x1c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01six.example\x00\x00\x00\x00\x00"`
		key1    = `a "KSLT\x05\x00\x00\x00key 1\x00\x00\x00"`
		key2A   = `a "KSLT\b\x00\x00\x00key 2 A\n"`
		key2B   = `a "KSLT\b\x00\x00\x00key 2 B\n"`
		none    = `5 5="\x00\x00\x00\x00\x00\x00\x00\x00" 7="\x00\x00\x00\x00\x00\x00\x00\x00"`
	)
	lost := func(missed, lost byte) string {
		return fmt.Sprintf(`5 5=%q 7=%q`, []byte{missed, 0, 0, 0, 0, 0, 0, 0}, []byte{lost, 0, 0, 0, 0, 0, 0, 0})
	}
	f := func(order binary.AppendByteOrder, sections int, expr, to, steps string, want ...string) {
		t.Helper()
		w := ngWriter{AppendByteOrder: order}
		for i := range sections {
			w.described(string(rune('A' + i)))
		}
		in := filepath.Join(t.TempDir(), "in.pcapng")
		if err := os.WriteFile(in, w.b, 0o600); err != nil {
			t.Fatal(err)
		}
		got := said(t, copyOf(t, in, expr, to, steps))
		// blocks beside frames stand as far in front as the reader was ahead
		rank := func(s string) int { return slices.Index([]string{"a", "4", "1", "6", "5"}, s[:1]) }
		if len(got) > 0 {
			slices.SortStableFunc(got[1:], func(a, b string) int { return rank(a) - rank(b) })
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	le, be := binary.LittleEndian, binary.BigEndian
	f(le, 1, "", "", "", section, key1, key2A, names, eth7, eth8, "6", "6", lost(7, 9), none)
	f(be, 1, "", "", "", section, key1, key2A, names, eth7, eth8, "6", "6", lost(7, 9), none)
	f(be, 2, "", "", "", section, key1, key2A, key1, key2B, names, names, eth7, eth8, "6", "6", "6", "6", lost(14, 18), none)

	// a second filter, addresses and secrets
	filtered := strings.Replace(eth7, `11="\x00ip"`, `1="captured with filter: ip"`, 1)
	filtered = strings.Replace(filtered, `"eth7"`, `"eth7" 11="\x00len > 5"`, 1)
	f(le, 1, "len > 5", "", "", section+` 1="filter: len > 5"`, key1, key2A, names, filtered, eth8+` 11="\x00len > 5"`, "6", "6", lost(7, 9), none)
	f(le, 1, "", "?filter=len > 5", "", section+` 1="filter: len > 5"`, key1, key2A, names, filtered, eth8+` 11="\x00len > 5"`, "6", "6", lost(7, 9), none)
	masked := strings.Replace(eth7, ` 6="\x02\x00\x00\x00\x00\a"`, "", 1)
	f(le, 1, "", "", "mask=l7", section, masked, eth8, "6", "6", lost(7, 9), none)
	f(be, 1, "", "?groom=mask=l7", "", section, masked, eth8, "6", "6", lost(7, 9), none)
}

// TestDescribedAsEditcap compares with what editcap 4.0 keeps, which leaves out addresses and names.
func TestDescribedAsEditcap(t *testing.T) {
	editcap := testkit.Tool(t, "editcap")
	dir := t.TempDir()
	in, theirs := filepath.Join(dir, "in.pcapng"), filepath.Join(dir, "theirs.pcapng")
	w := ngWriter{AppendByteOrder: binary.LittleEndian}
	w.described("A")
	if err := os.WriteFile(in, w.b, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(editcap, in, theirs).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	path := copyOf(t, in, "", "", "")
	if out, err := exec.Command(editcap, path, filepath.Join(dir, "again.pcapng")).CombinedOutput(); err != nil {
		t.Errorf("editcap of the copy: %v: %s", err, out)
	}
	ours := said(t, path)
	for _, line := range said(t, theirs) {
		ok := slices.ContainsFunc(ours, func(o string) bool {
			return strings.ReplaceAll(o, ` 6="\x02\x00\x00\x00\x00\a"`, "") == strings.ReplaceAll(line, ` 6="\x02\x00\x00\x00\x00\a"`, "")
		})
		if !ok && !strings.HasPrefix(line, "5") { // a later editcap also copies statistics
			t.Errorf("editcap keeps %s", line)
		}
	}
}
