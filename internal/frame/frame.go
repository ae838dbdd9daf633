// Package frame carries captured frames along the tap line: the bytes, where they were
// seen and when.
package frame

import "unsafe"

// LinkType is a link-layer header type as registered for pcap files
// (https://www.tcpdump.org/linktypes.html).
type LinkType uint16

// Link types the tap line understands.
const (
	LinkNull     LinkType = 0   // BSD loopback: address family in host order of the capturing machine
	LinkEthernet LinkType = 1   // IEEE 802.3 Ethernet
	LinkRaw      LinkType = 101 // bare IPv4 or IPv6
	LinkLoop     LinkType = 108 // OpenBSD loopback: address family in network order
	LinkSLL      LinkType = 113 // Linux cooked capture v1
	LinkIPv4     LinkType = 228 // bare IPv4
	LinkIPv6     LinkType = 229 // bare IPv6
	LinkSLL2     LinkType = 276 // Linux cooked capture v2
)

// Link types that filters can be compiled for besides.
const (
	LinkTokenRing      LinkType = 6   // IEEE 802.5
	LinkARCNET         LinkType = 7   // BSD's ARCNET
	LinkSLIP           LinkType = 8   // with a pseudo header
	LinkPPP            LinkType = 9   //
	LinkFDDI           LinkType = 10  //
	LinkPPPHDLC        LinkType = 50  // PPP in HDLC-like framing
	LinkPPPEther       LinkType = 51  // PPPoE session packets, without Ethernet header
	LinkATM            LinkType = 100 // LLC/SNAP over ATM (RFC 1483)
	LinkSLIPBSDOS      LinkType = 102 //
	LinkCiscoHDLC      LinkType = 104 //
	LinkWLAN           LinkType = 105 // IEEE 802.11
	LinkATMCLIP        LinkType = 106 // Linux classical IP over ATM
	LinkFrameRelay     LinkType = 107 //
	LinkLocalTalk      LinkType = 114 //
	LinkPFLOG          LinkType = 117 // OpenBSD pf's log
	LinkPrism          LinkType = 119 // 802.11 behind a Prism header
	LinkIPOverFC       LinkType = 122 // RFC 2625
	LinkSunATM         LinkType = 123 //
	LinkRadiotap       LinkType = 127 // 802.11 behind a radiotap header
	LinkARCNETLinux    LinkType = 129 //
	LinkJuniperMFR     LinkType = 134 //
	LinkAppleIEEE1394  LinkType = 138 // IP over IEEE 1394
	LinkMTP2PseudoHdr  LinkType = 139 //
	LinkMTP2           LinkType = 140 //
	LinkMTP3           LinkType = 141 //
	LinkAVS            LinkType = 163 // 802.11 behind an AVS header
	LinkMSTP           LinkType = 165 // BACnet MS/TP
	LinkPPPD           LinkType = 166 // PPP behind a direction byte
	LinkPPI            LinkType = 192 // per-packet information, here of 802.11
	LinkIPNET          LinkType = 226 // Solaris ipnet
	LinkNetANALYZER    LinkType = 240 // Ethernet behind a Hilscher header
	LinkNetANALYZERRaw LinkType = 241 // the same with preamble
	LinkBroadcomTag    LinkType = 281 // Ethernet with a Broadcom switch tag
	LinkDSA            LinkType = 284 // Ethernet with a Marvell switch tag
)

// Direction says which way a frame crossed its observation point, in the words of
// RFC 5102 (flowDirection, element 61).
type Direction uint8

// The values of flowDirection; Unknown where the source cannot tell.
const (
	Ingress Direction = 0
	Egress  Direction = 1
	Unknown Direction = 255
)

// GSO types of a virtio network header (OASIS virtio 1.2, section 5.1.6).
const (
	GSONone  uint8 = 0
	GSOTCPv4 uint8 = 1
	GSOUDP   uint8 = 3 // UDP fragmentation offload
	GSOTCPv6 uint8 = 4
	GSOUDPL4 uint8 = 5 // UDP segmentation offload
	GSOECN   uint8 = 0x80
)

// VNet is what the kernel says of a frame that never crossed a wire: how it would have
// been cut into wire segments and whether its checksum was left for hardware to fill in.
// The zero value means an ordinary, complete frame.
type VNet struct {
	Type       uint8  // GSO type, GSONone for a frame that is one segment
	Segment    uint16 // payload bytes of each wire segment (gso_size)
	HdrLen     uint16 // as the kernel reports it; a hint, never trusted for bounds
	NeedsCsum  bool   // the transport checksum is partial
	CsumStart  uint16 // offset from the frame's start where the checksum begins
	CsumOffset uint16 // offset from CsumStart of the checksum field
}

// Frame is one captured frame. Data belongs to the batch it came in and is valid until
// the batch is released.
type Frame struct {
	Data    []byte    // the bytes captured, from the link-layer header on
	OrigLen int       // bytes the frame had where it was captured; len(Data) when not cut
	TimeNS  int64     // receive time, nanoseconds since the Unix epoch, UTC
	Point   uint32    // index of the observation point in its source, 0 for the only one
	Link    LinkType  //
	Dir     Direction // as the capturing socket saw it
	Note    uint8     // which of the batch's Notes are the frame's, counted from 1; 0 for none
	VNet    VNet      //
	// Segments is the number of wire segments of the super-frame that this frame was cut from; 0 for a frame as it
	// was captured.
	Segments uint16
	// Tag is a label that a groom step gave the frame, which knows the text; 0 for none.
	Tag uint16
}

// Truncated reports whether the capture kept less than the frame had.
func (f *Frame) Truncated() bool { return len(f.Data) < f.OrigLen }

// Form is a form of records in capture files.
type Form uint8

// The forms that are told apart, of classic capture files in little-endian order.
const (
	OtherForm Form = iota
	PcapMicro      // times in microseconds
	PcapNano       // in nanoseconds
)

// Batch is a run of frames in capture order. Whoever receives a batch calls Release once
// when it no longer needs any of the bytes.
type Batch struct {
	Frames []Frame
	// Records is the stretch of a capture file, as it is stored there, that bytes of the frames are in; nil when they come from
	// elsewhere. It is valid as long as they are. A stage may leave out, change or copy frames without regard to it: Stored tells
	// which are still there.
	Records []byte
	// Notes are comments that a capture file has for frames, which Frame.Note tells.
	Notes [][]string
	// Exact says that Records holds just these Frames, each in that form with all that a frame says, when Intact is their number. A
	// stage that changes a frame in its place sets Intact to 0.
	Exact  Form
	Intact int
	// Free gives the memory back to the source; nil when there is nothing to do.
	Free func()
}

// Release gives the batch's memory back to its source. The frames must not be used after.
func (b *Batch) Release() {
	if b.Free != nil {
		b.Free()
		b.Free = nil
	}
	b.Frames, b.Records, b.Notes, b.Intact = nil, nil, nil, 0
}

// Part returns the frames from one up to another as a batch without Free.
func (b *Batch) Part(from, to int) Batch {
	part := Batch{Frames: b.Frames[from:to], Records: b.Records, Notes: b.Notes}
	if b.Intact != len(b.Frames) || b.Exact == OtherForm || from == to {
		return part
	}
	const header = 16 // of a record
	first, last := &b.Frames[from], &b.Frames[to-1]
	start, end := first.Stored(b.Records)-header, last.Stored(b.Records)+len(last.Data)
	if len(first.Data) > 0 && len(last.Data) > 0 && start >= 0 { // where no bytes are is not known
		part.Records, part.Exact, part.Intact = b.Records[start:end:end], b.Exact, to-from
	}
	return part
}

// Stored returns where in records the bytes of f begin, -1 when they are not there, or are not all in it.
func (f *Frame) Stored(records []byte) int {
	at := uintptr(unsafe.Pointer(unsafe.SliceData(f.Data))) - uintptr(unsafe.Pointer(unsafe.SliceData(records)))
	if at > uintptr(len(records)) || uintptr(len(f.Data)) > uintptr(len(records))-at { // what is in front of them is as far behind as can be
		return -1
	}
	return int(at)
}
