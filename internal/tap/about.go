package tap

import (
	"fmt"

	"crosstap/internal/flowproto/about"
	"crosstap/internal/ledger"
	"crosstap/internal/tap/export"
	"crosstap/internal/tap/groom"
)

// about adds to what an exporter tells of itself what the tap knows: where it observes, how packets are chosen, and its books.
func (t *Tap) about(x *about.Exporter) {
	x.Domain = t.spec.Name
	x.Packets = about.Sampling{Interval: t.interval(), Random: t.random()}
	if t.live != nil {
		places := export.Places(t.spec.Interfaces, t.spec.NetNS)
		x.Interfaces, x.VRFs = places.Interfaces, places.VRFs
		for i := range t.spec.Interfaces {
			p := t.point(uint32(i))
			x.Points = append(x.Points, about.Point{ID: p.ID, IfIndex: p.IfIndex, Name: places.Name(p.IfIndex), Switch: places.Switch[p.IfIndex]})
		}
	}
	ignored := about.Counts{}
	for _, s := range t.Statements() {
		x.Stages = append(x.Stages, stage(s))
		if s.Unit == ledger.Frames || s.Unit == ledger.Packets {
			for _, d := range s.Dropped {
				ignored.Packets += d.N
			}
		}
	}
	x.Ignored = &ignored
}

// random reports whether packets are chosen by chance. Whole conversations are: their hashes choose them.
func (t *Tap) random() bool {
	g := t.spec.Groom
	return t.path.random || g != nil && g.Sample != nil && g.Sample.Mode != groom.SampleEvery
}

func stage(s ledger.Statement) about.Stage {
	out := about.Stage{Name: fmt.Sprintf("%s %s", s.Stage, s.Unit), In: s.In + s.Made, Out: s.Out}
	for _, d := range s.Dropped {
		out.Dropped = append(out.Dropped, about.Dropped{Reason: d.Reason, Total: d.N})
	}
	return out
}

// sflow returns the sink of frames for one sFlow collector.
func (t *Tap) sflow(c export.SFlowTarget) (*export.SFlow, error) {
	cfg := export.SFlowConfig{Target: c, NetNS: t.spec.NetNS, Interfaces: t.spec.Interfaces, Logger: t.spec.Log, Capture: t.spec.File != ""}
	if t.live != nil {
		cfg.IfIndex = func(point uint32) uint32 { _, i := t.live.Interface(point); return i }
		cfg.Lost = func(point uint32) uint64 { return t.live.Lost(point) }
	}
	s, err := export.NewSFlow(cfg)
	if err != nil {
		return nil, fmt.Errorf("tap: %w", err)
	}
	return s, nil
}
