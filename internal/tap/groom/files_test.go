package groom_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"crosstap/internal/dissect"
	"crosstap/internal/frame"
	"crosstap/internal/tap/capture"
	"crosstap/internal/tap/groom"
	"crosstap/internal/testkit"
)

// readable reports whether the dissector knows a link type.
func readable(l frame.LinkType) bool {
	switch l {
	case frame.LinkNull, frame.LinkEthernet, frame.LinkRaw, frame.LinkLoop, frame.LinkSLL, frame.LinkIPv4, frame.LinkIPv6, frame.LinkSLL2:
		return true
	}
	return false
}

// load returns the frames of a capture, as many as it holds before it is damaged.
func load(tb testing.TB, path string) []frame.Frame {
	tb.Helper()
	src, err := capture.NewFile(capture.FileConfig{Path: path})
	if err != nil {
		tb.Fatal(err)
	}
	ch := make(chan frame.Batch)
	go func() {
		defer close(ch)
		_ = src.Run(context.Background(), ch)
	}()
	var all []frame.Frame
	for b := range ch {
		for _, f := range b.Frames {
			f.Data = bytes.Clone(f.Data)
			all = append(all, f)
		}
		b.Release()
	}
	return all
}

// save writes frames of one link type to a pcap file with nanoseconds.
func save(tb testing.TB, path string, link frame.LinkType, frames []frame.Frame) {
	tb.Helper()
	var b bytes.Buffer
	le := binary.LittleEndian
	b.Write(le.AppendUint32(nil, 0xa1b23c4d))
	b.Write([]byte{2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0})
	b.Write(le.AppendUint32(nil, uint32(link)))
	for _, f := range frames {
		for _, v := range []int64{f.TimeNS / 1e9, f.TimeNS % 1e9, int64(len(f.Data)), int64(f.OrigLen)} {
			b.Write(le.AppendUint32(nil, uint32(v)))
		}
		b.Write(f.Data)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		tb.Fatal(err)
	}
}

// pipeline returns a pipeline for a spec in the form of flags.
func pipeline(tb testing.TB, flags string) *groom.Pipeline {
	tb.Helper()
	s, err := groom.Parse(flags)
	if err != nil {
		tb.Fatal(err)
	}
	p, err := groom.New(groom.Config{Spec: s})
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// apply grooms frames and returns copies of what remains, for each output. The books must add up, and the frames
// that went in stay as they were.
func apply(tb testing.TB, p *groom.Pipeline, in []frame.Frame) [][]frame.Frame {
	tb.Helper()
	out := make([][]frame.Frame, p.Outputs())
	before := make([][]byte, len(in))
	for i, f := range in {
		before[i] = bytes.Clone(f.Data)
	}
	freed := 0
	p.Apply(frame.Batch{Frames: in, Free: func() { freed++ }}, func(o int, b frame.Batch) bool {
		for _, f := range b.Frames {
			f.Data = bytes.Clone(f.Data)
			out[o] = append(out[o], f)
		}
		b.Release()
		return true
	})
	if freed != 1 {
		tb.Errorf("the batch was released %d times", freed)
	}
	for i, f := range in {
		if !bytes.Equal(f.Data, before[i]) {
			tb.Fatalf("frame %d of the source was written to", i)
		}
	}
	balanced(tb, p)
	return out
}

// balanced checks the books: each adds up, and each receives what the one in front of it passed on.
func balanced(tb testing.TB, p *groom.Pipeline) {
	tb.Helper()
	for i, b := range p.Books() {
		s := b.Read()
		if err := s.Balance(); err != nil {
			tb.Error(err)
		}
		if i > 0 && s.In != p.Books()[i-1].Read().Out {
			tb.Errorf("%s: %d in, but %d were passed on", s.Stage, s.In, p.Books()[i-1].Read().Out)
		}
	}
}

// issues returns what the dissector finds wrong with a frame.
func issues(f *frame.Frame) (p dissect.Packet) {
	dissect.New(dissect.Config{}).Dissect(&p, f.Link, f.Data, f.OrigLen)
	return p
}

// corpus calls f for the frames of every capture of the corpus whose link types the dissector knows.
func corpus(t *testing.T, f func(name string, frames []frame.Frame)) {
	t.Helper()
	root := testkit.Corpus(t, "tap")
	n := 0
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".pcap" && filepath.Ext(path) != ".pcapng" {
			return err
		}
		frames := load(t, path)
		ok := len(frames) > 0
		for _, x := range frames {
			ok = ok && readable(x.Link)
		}
		if ok {
			n++
			name, _ := filepath.Rel(root, path)
			f(name, frames)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n < 100 {
		t.Errorf("only %d captures were used", n)
	}
}
