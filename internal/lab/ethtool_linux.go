package lab

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands of SIOCETHTOOL that switch one offload (linux/ethtool.h).
const (
	setRxCsum = 0x00000015
	setTxCsum = 0x00000017
	setSG     = 0x00000019
	setTSO    = 0x0000001f
	setGSO    = 0x00000024
	setGRO    = 0x0000002c
)

var (
	allOffloads     = []uint32{setTSO, setGSO, setGRO, setSG, setTxCsum, setRxCsum}
	segmentOffloads = []uint32{setTSO, setGSO}
)

// disable switches offloads of an interface off. What the device does not have is off already.
func (s *space) disable(name string, offloads []uint32) error {
	err := s.do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, cmd := range offloads {
			if err := ethtoolSet(fd, name, cmd, 0); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
				return fmt.Errorf("ethtool command %#x: %w", cmd, err)
			}
		}
		return nil
	})
	return s.wrap(name+": offloads off", err)
}

// ethtoolSet performs one SIOCETHTOOL that takes a struct ethtool_value.
func ethtoolSet(fd int, name string, cmd, data uint32) error {
	value := struct{ cmd, data uint32 }{cmd, data}
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte // struct ifreq is longer than its pointer member
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	runtime.KeepAlive(&value)
	if errno != 0 {
		return errno
	}
	return nil
}
