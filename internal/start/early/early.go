//go:build linux && !agent

package early

import (
	"runtime"
	"syscall"
	"unsafe"
)

const (
	growth       = 4 << 20 // Go takes so much from the kernel at a time, and of it
	hugePage     = 2 << 20
	little       = 128 << 10 // less comes from pages that a processor keeps for itself
	madvHugePage = 14        // MADV_HUGEPAGE
)

var rate = runtime.MemProfileRate

// Samples for profiles of memory would be of the libraries' tables alone.
func init() {
	runtime.MemProfileRate = 0
	Room()
}

// Room has what is made next stand in huge pages. Libraries' tables fill 3.5 MiB, page by page, each with a visit to the kernel: that takes longer than
// filling it. What is left over up to the next huge page costs nothing, as it is not written to before it is used again after the first collection. A kernel
// that has no huge pages to give goes on as before.
func Room() {
	here := take(little)
	next := (here + hugePage - 1) &^ (hugePage - 1)
	if next -= here; next >= little {
		take(next - little)
	}
	if at := take(little); at == here+next {
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, at, growth-at&(growth-1), madvHugePage)
	}
}

// take makes n bytes, which nothing is written to, and returns where they are. They are free again.
//
//go:noinline
func take(n uintptr) uintptr {
	return uintptr(unsafe.Pointer(unsafe.SliceData(make([]byte, n))))
}

// Over has profiles of memory begin.
func Over() { runtime.MemProfileRate = rate }
