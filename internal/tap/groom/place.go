package groom

import "crosstap/internal/dissect"

// find returns the offset of a place in the frame under way; it may be beyond its end. A layer that a packet does not have
// begins behind the last header that it has: so a slice or mask at layer 7 also meets the data of a later fragment, and of a
// protocol that is not known.
func (p Place) find(it *item) int {
	k := it.packet()
	f, level := &k.Levels[0], uint8(0)
	if p.Inner {
		level = uint8(max(k.NLevels-1, 0))
		f = k.Inner()
	}
	switch {
	case p.Layer == L2 && !p.Inner:
		return p.Offset
	case p.Layer == L2:
		return p.Offset + levelStart(k, level)
	case p.Layer == L3 && f.HasIP:
		return p.Offset + int(f.NetOff)
	case p.Layer == L4 && f.TransOff != 0:
		return p.Offset + int(f.TransOff)
	case p.Layer == L7 && f.PayloadOff != 0:
		return p.Offset + int(f.PayloadOff)
	}
	return p.Offset + behind(k, level, p.Layer)
}

// levelStart returns where the packet of a level begins.
func levelStart(k *dissect.Packet, level uint8) int {
	for _, l := range k.Layers[:k.NLayers] {
		if l.Level == level {
			return int(l.Off)
		}
	}
	return 0
}

// behind returns where the headers of a level end that belong below a layer.
func behind(k *dissect.Packet, level uint8, layer Layer) int {
	at := 0
	for _, l := range k.Layers[:k.NLayers] {
		if l.Level > level {
			break
		}
		if l.Level < level || rank(l.Kind) < layer {
			at = end(l)
		}
	}
	return at
}

// rank returns the layer that a header belongs to.
func rank(k dissect.Kind) Layer {
	switch {
	case k < dissect.KindARP:
		return L2
	case k < dissect.KindESP:
		return L3
	}
	return L4
}
