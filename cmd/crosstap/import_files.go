//go:build !agent

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"crosstap/internal/collect/listen"
	"crosstap/internal/flowproto"
	"crosstap/internal/frame"
	"crosstap/internal/tap/capture"
)

// exportFiles is a source of the datagrams in captures, one after the other. One that cannot be read does not keep the others out.
type exportFiles []*exportFile

// Run implements collect.Source.
func (s exportFiles) Run(ctx context.Context, out chan<- listen.Batch) error {
	for _, x := range s {
		if x.err = x.Run(ctx, out); ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

func (s exportFiles) errors() (err error) {
	for _, x := range s {
		if x.err != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", x.name, x.err))
		}
	}
	return err
}

func (s exportFiles) sum(of func(*exportFile) int64) (n int64) {
	for _, x := range s {
		n += of(x)
	}
	return n
}

// finish notes which files are stored.
func (s exportFiles) finish(log *imports, records uint64) error {
	for _, x := range s {
		if x.err != nil {
			continue
		}
		if err := log.add(imported{Sum: x.sum, File: x.name, When: time.Now().UTC(), Records: records, Files: len(s), Done: true}); err != nil {
			return err
		}
	}
	return nil
}

// exportFile is a source of the datagrams in a capture.
type exportFile struct {
	name, sum                  string
	size                       int64
	port                       uint16
	begin                      func() error // before its first datagram is passed on
	cut                        bool         // set before Run returns
	err                        error        // why it could not be read
	read, datagrams, fragments atomic.Int64
	frames                     atomic.Int64
}

// ended says how the file ended, "" when as it should.
func (x *exportFile) ended() string {
	if x.cut {
		return "; the capture is cut at its end"
	}
	if n := x.frames.Load(); n > 0 && x.datagrams.Load() == 0 && x.fragments.Load() == 0 {
		return fmt.Sprintf("; no NetFlow, IPFIX or sFlow in %s (crosstap tap -r FILE meters packets)", plural(int(n), "frame"))
	}
	return ""
}

// Run implements collect.Source.
func (x *exportFile) Run(ctx context.Context, out chan<- listen.Batch) error {
	f, err := os.Open(x.name)
	if err != nil {
		return err
	}
	defer f.Close()
	var magic [2]byte
	if n, _ := f.ReadAt(magic[:], 0); n == 2 && (magic == [2]byte{0x0c, 0xa5} || magic == [2]byte{0xa5, 0x0c}) { // of nfdump 1.6 and 1.7, nffile.h
		return fmt.Errorf("a file of nfcapd holds no datagrams; start a server and send it what is in the file: nfreplay -r %s -H 127.0.0.1 -p 2055 -v 9", x.name)
	}
	src, err := capture.NewFile(capture.FileConfig{Path: x.name, Reader: &meteredReader{f, &x.read}})
	if err != nil {
		return err
	}
	frames, done := make(chan frame.Batch, 4), make(chan error, 1)
	go func() {
		defer close(frames)
		done <- src.Run(ctx, frames)
	}()
	var failed error
	begin := sync.OnceValue(x.begin)
	for b := range frames {
		x.frames.Add(int64(len(b.Frames)))
		batch := x.datagramsOf(&b)
		b.Release()
		if len(batch.Datagrams) == 0 {
			continue
		}
		if failed = begin(); failed != nil {
			continue
		}
		select {
		case out <- batch:
		case <-ctx.Done():
		}
	}
	if err = <-done; err != nil && x.datagrams.Load() > 0 && ctx.Err() == nil {
		x.cut, err = true, nil
	}
	return errors.Join(err, failed)
}

// datagramsOf copies the export datagrams of a batch of frames.
func (x *exportFile) datagramsOf(b *frame.Batch) (out listen.Batch) {
	for i := range b.Frames {
		f := &b.Frames[i]
		u, ok := findUDP(f.Link, f.Data)
		if !ok || x.port != 0 && u.srcPort != x.port && u.dstPort != x.port {
			continue
		}
		if p := flowproto.Detect(u.payload); p == flowproto.Unknown || p == flowproto.Empty {
			continue
		}
		if u.fragment {
			x.fragments.Add(1)
			continue
		}
		x.datagrams.Add(1)
		out.Datagrams = append(out.Datagrams, listen.Datagram{Data: append([]byte(nil), u.payload...), From: netip.AddrPortFrom(u.src, u.srcPort),
			Local: netip.AddrPortFrom(u.dst, u.dstPort), TimeNS: f.TimeNS})
	}
	return out
}

// meteredReader counts what is read.
type meteredReader struct {
	r io.Reader
	n *atomic.Int64
}

func (m *meteredReader) Read(b []byte) (int, error) {
	n, err := m.r.Read(b)
	m.n.Add(int64(n))
	return n, err
}
