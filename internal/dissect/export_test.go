package dissect

import "crosstap/internal/frame"

// DissectSingly is Dissect without plain: one header after the other.
func (d *Dissector) DissectSingly(p *Packet, link frame.LinkType, data []byte, origLen int) {
	var w walk
	w.start(d, p, data, origLen)
	for k := w.first(link); k != KindNone; k = w.step(k) {
		if p.NLayers == MaxLayers {
			p.Issues |= Deep
			return
		}
	}
}
