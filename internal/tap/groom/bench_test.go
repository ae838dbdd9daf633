package groom_test

import (
	"context"
	"encoding/binary"
	"math/rand"
	"os"
	"testing"

	"crosstap/internal/frame"
	"crosstap/internal/tap/capture"
	"crosstap/internal/wire"
)

// imix makes n frames in n/20 conversations, 7:4:1 of small, middle and large ones, half of them inside VXLAN.
func imix(n int) []frame.Frame {
	r := rand.New(rand.NewSource(1))
	var all []frame.Frame
	for i := range n {
		size := []int{0, 0, 0, 0, 0, 0, 0, 500, 500, 500, 500, 1400}[r.Intn(12)]
		flow := r.Intn(max(1, n/20))
		p := packet{src: byte(flow), dst: byte(flow >> 8), srcPort: uint16(flow), dstPort: 80, id: uint16(i), ttl: 64, tcp: true, flags: 0x18, seq: uint32(i), payload: make([]byte, size)}
		f := p.frame(int64(i)*3000, 0)
		if flow&1 != 0 {
			f = inVXLAN(f, uint16(flow))
		}
		all = append(all, f)
	}
	return all
}

func inVXLAN(f frame.Frame, port uint16) frame.Frame {
	h := make(wire.VXLAN, wire.VXLANLen)
	h[0] = 8
	h.SetVNI(5001)
	out := packet{src: 201, dst: 202, srcPort: port, dstPort: 4789, ttl: 64, payload: append(h, f.Data...)}.frame(f.TimeNS, f.Point)
	wire.UDP(out.Data[34:]).SetChecksum(0)
	return out
}

// super makes a super-frame of TCP with its virtio header.
func super(payload int) frame.Frame {
	f := packet{src: 1, dst: 2, srcPort: 3, dstPort: 80, id: 9, ttl: 64, tcp: true, flags: 0x18, payload: make([]byte, payload)}.frame(1, 0)
	binary.BigEndian.PutUint16(f.Data[50:], wire.PseudoSum(f.Data[26:30], f.Data[30:34], wire.ProtoTCP, 20+payload))
	f.VNet = frame.VNet{Type: frame.GSOTCPv4, Segment: 1448, HdrLen: 54, NeedsCsum: true, CsumStart: 34, CsumOffset: 16}
	return f
}

func BenchmarkGroom(b *testing.B) {
	frames := imix(1 << 17)
	f := func(flags string, frames []frame.Frame) {
		b.Run(flags, func(b *testing.B) {
			p := pipeline(b, flags)
			b.ReportAllocs()
			n, at := 0, 0
			for b.Loop() {
				batch := frames[at:min(at+256, len(frames))]
				if at += 256; at >= len(frames) {
					at = 0
				}
				n += len(batch)
				p.Apply(frame.Batch{Frames: batch}, func(_ int, b frame.Batch) bool { b.Release(); return true })
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/frame")
		})
	}
	f("", frames)
	f("repair", frames)
	f("strip=all", frames)
	f("dedup", frames)
	f("dedup/same-point/frame", frames)
	f("sample=1:10/flow", frames)
	f("slice=inner-l7+0", frames)
	f("slice=inner-l7+0/after=10p", frames)
	f("mask=inner-l7:16-", frames)
	f("balance=4", frames)
	f("repair,strip=all,dedup,slice=l7+64,balance=3", frames)
	var supers []frame.Frame
	for range 256 {
		supers = append(supers, super(60000))
	}
	f("repair", supers)
}

// BenchmarkDedupFile reads a capture (GROOM_PCAP) and drops duplicates: to compare with editcap -D.
func BenchmarkDedupFile(b *testing.B) {
	path := os.Getenv("GROOM_PCAP")
	if path == "" {
		b.Skip("no GROOM_PCAP")
	}
	for b.Loop() {
		src, err := capture.NewFile(capture.FileConfig{Path: path})
		if err != nil {
			b.Fatal(err)
		}
		in, out := make(chan frame.Batch, 4), make(chan frame.Batch, 4)
		p := pipeline(b, "dedup/same-point")
		go func() {
			defer close(in)
			_ = src.Run(context.Background(), in)
		}()
		go func() {
			defer close(out)
			_ = p.Run(context.Background(), in, out)
		}()
		n := 0
		for x := range out {
			n += len(x.Frames)
			x.Release()
		}
	}
}
