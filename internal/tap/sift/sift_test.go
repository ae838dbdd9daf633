package sift

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/filter"
	"crosstap/internal/frame"
	"crosstap/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// ethernet is a frame of an EtherType, with room.
func ethernet(kind byte) []byte {
	b := make([]byte, 300)
	b[12], b[13], b[14] = 8, kind, 0x45
	return b
}

// run sifts batches and returns the data that came out.
func run(t *testing.T, s *Sieve, batches ...[]frame.Frame) (got []frame.Frame, err error) {
	t.Helper()
	in, out := make(chan frame.Batch, len(batches)), make(chan frame.Batch, len(batches))
	released := 0
	for _, b := range batches {
		in <- frame.Batch{Frames: b, Free: func() { released++ }}
	}
	close(in)
	err = s.Run(context.Background(), in, out)
	close(out)
	for b := range out {
		if len(b.Frames) == 0 {
			t.Error("an empty batch was passed on")
		}
		got = append(got, b.Frames...)
		b.Release()
	}
	if err == nil && released != len(batches) {
		t.Errorf("%d of %d batches released", released, len(batches))
	}
	return got, err
}

func TestSieve(t *testing.T) {
	s, err := New(Config{Expr: "arp", SnapLen: 60})
	if err != nil {
		t.Fatal(err)
	}
	arp := func(point uint32) frame.Frame {
		return frame.Frame{Data: ethernet(6), OrigLen: 300, Point: point, Link: frame.LinkEthernet}
	}
	ip := func(point uint32) frame.Frame {
		return frame.Frame{Data: ethernet(0), OrigLen: 300, Point: point, Link: frame.LinkEthernet}
	}
	got, err := run(t, s, []frame.Frame{ip(0), arp(0), ip(1), arp(1), arp(2)}, []frame.Frame{ip(1), ip(1)}, []frame.Frame{arp(1)})
	if err != nil || len(got) != 4 {
		t.Fatalf("%d frames, %v", len(got), err)
	}
	for i, f := range got {
		if f.Point != []uint32{0, 1, 2, 1}[i] || len(f.Data) != 60 || f.OrigLen != 300 {
			t.Errorf("frame %d: %d bytes of %d, point %d", i, len(f.Data), f.OrigLen, f.Point)
		}
	}
	if st := s.Book().Read(); st.Balance() != nil || st.In != 8 || st.Out != 4 || st.Dropped[DropFiltered].N != 4 {
		t.Errorf("%+v", st)
	}
	tallies := []Tally{s.Tally(0), s.Tally(1), s.Tally(2), s.Tally(3)}
	if diff := cmp.Diff([]Tally{{2, 1}, {5, 2}, {1, 1}, {}}, tallies); diff != "" {
		t.Error(diff)
	}
}

// A filter that fits only some link types is refused when a frame of another comes.
func TestLinkTypes(t *testing.T) {
	s, err := New(Config{Expr: "ether host 02:00:00:00:00:01"})
	if err != nil {
		t.Fatal(err)
	}
	var mistake *filter.Error
	_, err = run(t, s, []frame.Frame{{Data: ethernet(0), Link: frame.LinkEthernet}, {Data: ethernet(0), Link: frame.LinkRaw}})
	if !errors.As(err, &mistake) || s.Book().Read().Balance() != nil {
		t.Errorf("%v, %+v", err, s.Book().Read())
	}
	if _, err := New(Config{Expr: "tcp prot 5"}); !errors.As(err, &mistake) {
		t.Error(err)
	}
}

func TestKernel(t *testing.T) {
	f := func(expr string, residual bool) {
		t.Helper()
		k, err := Compile(expr, frame.LinkEthernet, filter.Options{})
		if err != nil || (k.Residual != "") != residual || len(k.Program) == 0 {
			t.Errorf("%s: %+v, %v", expr, k, err)
		}
	}
	f("tcp port 443", false)
	f("vlan 5 and udp", false)
	f("inner tcp port 443", true)
	f(manyHosts(3000), true) // more than a socket takes: the stage decides
}

// manyHosts is an expression with n addresses.
func manyHosts(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(" or ")
		}
		fmt.Fprintf(&b, "host 10.%d.%d.%d", i>>8&255, i&255, i*37&255)
	}
	return b.String()
}

func TestSiftAllocatesNothing(t *testing.T) {
	s, err := New(Config{Expr: "arp"})
	if err != nil {
		t.Fatal(err)
	}
	m := matcher{sieve: s}
	frames := make([]frame.Frame, 64)
	for i := range frames {
		frames[i] = frame.Frame{Data: ethernet(6), OrigLen: 300, Point: 3, Link: frame.LinkEthernet}
	}
	if n := testkit.Allocs(100, func() {
		b := frame.Batch{Frames: frames}
		_ = m.sift(&b)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
