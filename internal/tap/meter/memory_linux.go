package meter

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePage is the size of the pages that the kernel is asked to back the cache with: with ordinary ones
// the processor spends more on finding a random flow's address than on the flow.
const hugePage = 2 << 20

// reserve returns n zero values outside the heap; the kernel gives memory to those that are used. The function gives all of it
// back.
func reserve[T entry | uint64](n int) ([]T, func()) {
	var one T
	size := n*int(unsafe.Sizeof(one)) + hugePage
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return make([]T, n), func() {}
	}
	at := -int(uintptr(unsafe.Pointer(&mem[0]))) & (hugePage - 1)
	_ = unix.Madvise(mem[at:at+(size-at)&^(hugePage-1)], unix.MADV_HUGEPAGE) // not in every kernel
	return unsafe.Slice((*T)(unsafe.Pointer(&mem[at])), n), func() { _ = unix.Munmap(mem) }
}
