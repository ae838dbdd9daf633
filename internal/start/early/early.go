//go:build linux && !agent

package early

import (
	"runtime"
	"syscall"
	"unsafe"
)

const (
	hugePage     = 2 << 20
	madvHugePage = 14 // MADV_HUGEPAGE
)

var (
	rate  = runtime.MemProfileRate
	begin = new([64]byte) // near the beginning of Go's memory
)

// What is made at the start fills 3.5 MiB, page by page, each with a visit to the kernel. The first 2 MiB of it that can be one page shall be one;
// a kernel that has none to give goes on as before. Samples for profiles of memory would be taken of libraries' tables alone.
func init() {
	runtime.MemProfileRate = 0
	from := (uintptr(unsafe.Pointer(begin)) + hugePage - 1) &^ (hugePage - 1)
	_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, from, hugePage, madvHugePage)
}

// Over has profiles of memory begin.
func Over() { runtime.MemProfileRate = rate }
