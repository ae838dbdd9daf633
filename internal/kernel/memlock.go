package kernel

import (
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// unlimitMemory lifts the limit on locked memory, which kernels before 5.11 count maps against. What it forbids all the same is told where
// memory is asked for. The version is asked here because cilium/ebpf/rlimit tries it out when a program starts, whatever that is to do.
func unlimitMemory() {
	const accountsByGroup = 5<<16 | 11<<8
	if v, err := features.LinuxVersionCode(); err == nil && v >= accountsByGroup {
		return
	}
	_ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
}
