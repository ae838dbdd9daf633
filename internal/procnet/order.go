package procnet

import "encoding/binary"

// nativeOne is the number one in the byte order of this machine.
var nativeOne = func() (b [2]byte) {
	binary.NativeEndian.PutUint16(b[:], 1)
	return b
}()
