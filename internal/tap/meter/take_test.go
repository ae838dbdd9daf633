package meter

import (
	"encoding/binary"
	"fmt"
	"testing"

	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"crosstap/internal/wire"
)

// udpFrames returns n frames of 60 bytes, the k-th of flow k*7919 modulo flows: neighbours are of different flows.
func udpFrames(n, flows int) []frame.Frame {
	be := binary.BigEndian
	all := make([]frame.Frame, n)
	for k := range all {
		number := k * 7919 % flows
		b := make([]byte, 60)
		copy(b, "\x02\x00\x00\x00\x09\x09\x02\x00\x00\x00\x08\x08\x08\x00\x45")
		b[22], b[23] = 64, wire.ProtoUDP
		be.PutUint16(b[16:], 46)
		be.PutUint32(b[26:], 0x0a000000|uint32(number))
		be.PutUint32(b[30:], 0x0a800001)
		be.PutUint16(b[34:], uint16(1024+number%50000))
		be.PutUint16(b[36:], 5353)
		be.PutUint16(b[38:], 26)
		all[k] = frame.Frame{Data: b, OrigLen: len(b), TimeNS: 1e18 + int64(k), Link: frame.LinkEthernet}
	}
	return all
}

// BenchmarkTake meters frames as a live line does, 64 at a time; ns/op is of one frame.
func BenchmarkTake(b *testing.B) {
	for _, flows := range []int{1000, 50000} {
		b.Run(fmt.Sprintf("flows=%d", flows), func(b *testing.B) {
			c := DefaultConfig()
			c.Live = true
			m, err := New(c)
			if err != nil {
				b.Fatal(err)
			}
			l := m.Begin(func([]flow.Record) error { return nil })
			const atOnce = 64
			all := udpFrames((flows+atOnce-1)/atOnce*atOnce*4, flows)
			for i := 0; i < len(all); i += atOnce {
				l.Take(frame.Batch{Frames: all[i : i+atOnce]})
			}
			b.ReportAllocs()
			b.ResetTimer()
			for n, at := 0, 0; n < b.N; n += atOnce {
				l.Look()
				l.Take(frame.Batch{Frames: all[at : at+atOnce]})
				if at += atOnce; at == len(all) {
					at = 0
				}
			}
			b.StopTimer()
			if err := l.End(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
