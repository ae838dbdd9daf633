package export

import (
	"crosstap/internal/flowproto/sflow"
	"crosstap/internal/frame"
)

// linkProtocol is the header_protocol of frames that begin with an IP header.
func linkProtocol(f *frame.Frame) (uint32, bool) {
	if f.Link == frame.LinkEthernet || len(f.Data) == 0 {
		return 0, false
	}
	if f.Data[0]>>4 == 6 {
		return sflow.HeaderIPv6, true
	}
	return sflow.HeaderIPv4, true
}

// segments returns how many packets a frame is on the wire, and the length of all but the last.
func segments(f *frame.Frame) (n, length int) {
	total := max(f.OrigLen, len(f.Data))
	size := int(f.VNet.Segment)
	if f.VNet.Type == frame.GSONone || size == 0 {
		return 1, total
	}
	headers := int(f.VNet.HdrLen)
	if at := int(f.VNet.CsumStart); f.VNet.NeedsCsum && at+13 < len(f.Data) {
		switch f.VNet.Type &^ frame.GSOECN {
		case frame.GSOTCPv4, frame.GSOTCPv6:
			headers = at + int(f.Data[at+12]>>4)*4
		default:
			headers = at + 8
		}
	}
	if headers <= 0 || headers >= total || total-headers <= size {
		return 1, total
	}
	return (total - headers + size - 1) / size, headers + size
}

// shorten corrects the length in the first IP header of a super-frame, of which one packet is told. What is inside a tunnel
// stays as it is; groom's repair cuts such frames properly.
func shorten(b []byte, length int) {
	at := 14
	for at+4 <= len(b) && (b[at-2] == 0x81 && b[at-1] == 0 || b[at-2] == 0x88 && b[at-1] == 0xa8) {
		at += 4
	}
	switch n := length - at; {
	case at+20 <= len(b) && b[at]>>4 == 4:
		b[at+2], b[at+3] = byte(n>>8), byte(n)
	case at+40 <= len(b) && b[at]>>4 == 6:
		b[at+4], b[at+5] = byte((n-40)>>8), byte(n-40)
	}
}
