package groom

import (
	"crosstap/internal/dissect"
	"crosstap/internal/frame"
)

// item is the frame under way through the steps.
type item struct {
	f     frame.Frame
	group *group
	d     *dissect.Dissector
	pkt   dissect.Packet
	known bool   // pkt describes f
	owned bool   // the bytes of f are the pipeline's own and may be written
	whole []byte // the frame's bytes before it was sliced, nil when it was not
	// origin names the point that the frame was copied at: that of the source, until the strip step finds out which
	// exporter's tunnel brought it.
	origin uint64
}

// load begins with a frame as it came in.
func (it *item) load(f *frame.Frame) {
	it.f = *f
	it.known, it.owned, it.whole = false, false, nil
	it.origin = uint64(f.Point)
}

// replace goes on with other bytes for the frame; origLen is the length that the frame has on the wire.
func (it *item) replace(b []byte, origLen int, owned bool) {
	it.f.Data, it.f.OrigLen = b, origLen
	it.known, it.owned = false, owned
}

// packet returns the frame's layers.
func (it *item) packet() *dissect.Packet {
	if !it.known {
		it.d.Dissect(&it.pkt, it.f.Link, it.f.Data, it.f.OrigLen)
		it.known = true
	}
	return &it.pkt
}

// own returns the frame's bytes for writing: the first time a copy, as the source's memory is never written to.
func (it *item) own() []byte {
	if !it.owned {
		b := it.group.take(len(it.f.Data))
		copy(b, it.f.Data)
		it.f.Data, it.owned = b, true
	}
	return it.f.Data
}

// layers returns the frame's layers as a slice.
func (it *item) layers() []dissect.Layer {
	p := it.packet()
	return p.Layers[:p.NLayers]
}

// end returns the offset behind a layer.
func end(l dissect.Layer) int { return int(l.Off) + int(l.Len) }
