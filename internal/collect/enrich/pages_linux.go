package enrich

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// largePage is the size of a large page, where there are any; smaller slices are left alone.
const largePage = 2 << 20

// largePages asks the kernel for large pages under a slice that is visited here and there: looking up where a small page lies costs
// as much as what is on it. A refusal means nothing.
func largePages[T any](s []T) {
	var v T
	size := uintptr(len(s)) * unsafe.Sizeof(v)
	if size < 2*largePage {
		return
	}
	b := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), size)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(s))) & (largePage - 1)
	_ = unix.Madvise(b[skip:][:(size-skip)&^(largePage-1)], unix.MADV_HUGEPAGE)
}
