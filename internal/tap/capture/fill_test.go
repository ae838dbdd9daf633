//go:build linux

package capture

import (
	"encoding/binary"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
)

// BenchmarkFill makes frames of a block as the kernel lays it out; ns/op is of one frame.
func BenchmarkFill(b *testing.B) {
	const n, step, mac, snap = 1024, 152, 92, 60
	mem := make([]byte, 256<<10)
	ne := binary.NativeEndian
	ne.PutUint32(mem[blockPackets:], n)
	ne.PutUint32(mem[blockFirst:], 48)
	for i := range n {
		h := (*header)(unsafe.Pointer(&mem[48+i*step]))
		*h = header{next: step, sec: 1e9, snap: snap, len: snap, mac: mac, pktType: unix.PACKET_OTHERHOST}
	}
	r := &ring{mem: mem, blocks: 1, blockSize: len(mem), vnet: true, link: frame.LinkEthernet}
	frames := make([]frame.Frame, 0, framesInPlace)
	for b.Loop() {
		for e := r.entries(0); e.left > 0; {
			frames = e.fill(frames[:0], framesInPlace)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/frame")
}
