package meter

import (
	"crosstap/internal/dissect"
	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"crosstap/internal/ledger"
	"crosstap/internal/wire"
)

// arrival is one packet on its way into the cache.
type arrival struct {
	key        key
	hash       uint64
	size       size
	timeNS     int64
	payload    []byte // what the transport header carries, as far as it was captured; belongs to the batch
	seq        uint32 // of TCP
	seqLen     uint32 // sequence numbers that the segment takes
	outerPorts uint32
	vifs       uint32
	likely     uint32 // number of its flow, when nothing changes until its turn
	pieceAt    int32  // of its piece, when it is a fragment or inside one; else noPiece
	tcpFlags   uint16
	marks      flow.Mark
	tos        uint8
	ttl        uint8
	sequenced  bool // seq and seqLen are known
	zeroWindow bool
	learn      bool // not a packet: word of a fragmented tunnel for the worker that gets the other fragments
}

const noPiece = -1

// front turns frames into arrivals. Each worker has its own.
type front struct {
	cfg    *Config
	frames *ledger.Book
	hasher *hasher
	packet dissect.Packet
}

// arrive makes an arrival of a frame. It returns false for one that is not metered, after the books are told.
func (w *front) arrive(a *arrival, pc *piece, f *frame.Frame) bool {
	return w.plain(a, f) || w.dissected(a, pc, f)
}

// dissected is arrive for a frame of any kind.
func (w *front) dissected(a *arrival, pc *piece, f *frame.Frame) bool {
	p := &w.packet
	w.cfg.Dissector.Dissect(p, f.Link, f.Data, f.OrigLen)
	i, drop := w.level(p)
	if i < 0 {
		w.frames.Drop(drop, 1)
		return false
	}
	lv := &p.Levels[i]
	keyOf(&a.key, f, p, i, w.cfg.Key != KeyOuter)
	a.size = sizeOf(f, p, i)
	a.timeNS = f.TimeNS
	a.tcpFlags, a.tos, a.ttl = lv.TCPFlags, lv.ToS, lv.TTL
	a.marks, a.outerPorts, a.vifs, a.pieceAt, a.learn = 0, 0, 0, noPiece, false
	if p.Issues&dissect.Truncated != 0 {
		a.marks = flow.MarkTruncated
	}
	if tagged(p, i) {
		a.tags(f, p, i)
	}
	if lv.MoreFrags || lv.FragOff != 0 {
		a.pieceAt = 0
	}
	if w.cfg.Key != KeyOuter {
		for j := range i {
			out := &p.Levels[j]
			a.outerPorts = uint32(out.SrcPort)<<16 | uint32(out.DstPort)
			if out.MoreFrags {
				a.pieceAt = 0
			}
		}
		if w.cfg.Key == KeyBoth && !w.cfg.Biflow {
			a.key[3] |= uint64(a.outerPorts)
		}
	}
	if a.pieceAt != noPiece {
		pc.set(f, p, i, w.cfg.Key != KeyOuter)
	}
	a.transport(f, lv)
	a.hash = w.hasher.hash(&a.key)
	return true
}

// level finds which packet of a frame is metered. Without one it returns -1 and the reason.
func (w *front) level(p *dissect.Packet) (level, drop int) {
	if w.cfg.Key == KeyOuter {
		for i := range p.NLevels {
			if p.Levels[i].HasIP {
				return i, 0
			}
		}
	}
	if i := p.NLevels - 1; p.Levels[i].HasIP {
		return i, 0
	}
	return innermostIP(p)
}

// innermostIP finds what to meter of a frame whose innermost level has no IP packet: nothing when that is
// what the frame carries, the level around it when the frame is cut or damaged there. Without one it
// returns -1 and the reason.
func innermostIP(p *dissect.Packet) (level, drop int) {
	switch {
	case p.Issues&dissect.Truncated != 0:
		drop = DropTruncated
	case p.Issues&(dissect.Malformed|dissect.Deep) != 0:
		drop = DropMalformed
	case p.Issues&dissect.Unsupported != 0 && p.NLayers == 0:
		return -1, DropUnsupported
	default:
		return -1, DropNonIP
	}
	for i := p.NLevels - 2; i >= 0; i-- {
		if p.Levels[i].HasIP {
			return i, drop
		}
	}
	return -1, drop
}

// tagged reports whether the packet at level i may have a VN-Tag or an MPLS label before its IP header. It is false for what comes
// in Ethernet with VLAN tags alone, be it in VXLAN or Geneve.
func tagged(p *dissect.Packet, i int) bool {
	lv := &p.Levels[i]
	if i > 0 && lv.TunnelType != dissect.TunnelVXLAN && lv.TunnelType != dissect.TunnelGeneve {
		return true
	}
	link := lv.NetOff - lv.LinkOff
	return link != wire.EthernetLen && (link != wire.EthernetLen+wire.VLANLen || lv.VLAN == 0)
}

// tags reads the VN-Tag and the label on top of the MPLS stack that are nearest to the IP header of level i.
func (a *arrival) tags(f *frame.Frame, p *dissect.Packet, i int) {
	before := dissect.KindNone
	for _, l := range p.Layers[:p.NLayers] {
		if l.Off >= p.Levels[i].NetOff {
			return
		}
		b := f.Data[l.Off:]
		switch {
		case l.Kind == dissect.KindVNTag && len(b) >= wire.VNTagLen:
			h := wire.VNTag(b)
			a.vifs = uint32(h.SrcVIF())<<16 | uint32(h.DstVIF())
		case l.Kind == dissect.KindMPLS && before != dissect.KindMPLS && len(b) >= wire.MPLSLen:
			a.key[8] &^= labelMask << 32
			a.key.setLabel(wire.MPLS(b).Label())
		}
		before = l.Kind
	}
}

// transport takes what the metrics need of the transport header and behind it.
func (a *arrival) transport(f *frame.Frame, lv *dissect.Flow) {
	a.payload, a.sequenced, a.zeroWindow = nil, false, false
	if lv.PayloadOff == 0 {
		return
	}
	end := int(lv.NetOff) + int(lv.IPLen32)
	start := int(lv.PayloadOff)
	switch lv.Proto {
	case wire.ProtoTCP:
		h := wire.TCP(f.Data[lv.TransOff:])
		if lv.MoreFrags || !h.Valid() {
			break
		}
		a.sequenced, a.seq = true, h.Seq()
		a.seqLen = uint32(max(end-start, 0))
		if a.tcpFlags&tcpSYN != 0 {
			a.seqLen++
		}
		if a.tcpFlags&tcpFIN != 0 {
			a.seqLen++
		}
		a.zeroWindow = h.Window() == 0 && a.tcpFlags&(tcpSYN|tcpFIN|tcpRST) == 0
	case wire.ProtoUDP:
	default:
		return
	}
	if end = min(end, len(f.Data)); start < end {
		a.payload = f.Data[start:end]
	}
}
