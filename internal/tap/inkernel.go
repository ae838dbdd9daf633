package tap

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"crosstap/internal/flow"
	"crosstap/internal/kernel"
	"crosstap/internal/tap/deliver/tunnel"
	"crosstap/internal/tap/groom"
	"crosstap/internal/tap/meter"
)

// The paths that a spec may ask for.
const (
	PathAuto   = "auto"
	PathTCX    = "tcx"
	PathClsact = "clsact"
	PathRing   = "ring"
)

// Paths are the words of Spec.Path.
var Paths = []string{PathAuto, PathTCX, PathClsact, PathRing}

// product is what programs in the kernel do for a tap.
type product uint8

const (
	noProduct     product = iota // frames come through the packet ring of each interface
	mirrorProduct                // the kernel makes the copies
	flowsProduct                 // the kernel counts packets in a flow table
	headProduct                  // the kernel hands over the first bytes of frames
)

// inKernel is the part of a tap that runs in the kernel.
type inKernel struct {
	product product
	forced  bool // by the spec: without the kernel there is no tap
	ways    []kernel.Way
	why     string // why this path
	alone   bool   // there is one processor: user space has none of its own

	sample kernel.Sample // drawn by the source of the kernel
	random bool          // by chance or by conversation

	// mirrors
	wishes []mirrorWish
	copies atomic.Pointer[copies] // once they run

	// flows and headers, whose programs are the source
	flows   *kernel.Flows
	headers *kernel.Headers
	records chan []flow.Record // of flows; the meter's go there, too
}

// mirrorWish is a destination whose copies the kernel may make.
type mirrorWish struct {
	to     string
	filter string
	sample kernel.Sample
	keep   int
}

// makePath chooses where frames are taken from. It comes before makeSource.
func (t *Tap) makePath() error {
	s := &t.spec
	if s.Path == "" {
		s.Path = PathAuto
	}
	if !slices.Contains(Paths, s.Path) {
		return fmt.Errorf("tap: path %q: want %s", s.Path, strings.Join(Paths, ", "))
	}
	k := &inKernel{alone: runtime.NumCPU() == 1 && !t.elsewhere, forced: s.Path == PathTCX || s.Path == PathClsact, ways: []kernel.Way{kernel.TCX, kernel.Clsact}}
	switch s.Path {
	case PathTCX:
		k.ways = []kernel.Way{kernel.TCX}
	case PathClsact:
		k.ways = []kernel.Way{kernel.Clsact}
	}
	t.path = k
	why := t.choose(k)
	switch {
	case !s.local():
		if k.forced {
			return fmt.Errorf("tap: path %s: programs in the kernel are for interfaces of this host (-i)", s.Path)
		}
		k.why = ""
	case k.product == noProduct && k.forced:
		return fmt.Errorf("tap: path %s: %s", s.Path, why)
	case k.product == noProduct:
		k.why = why
	}
	return nil
}

// choose chooses the product. Without one it says why.
func (t *Tap) choose(k *inKernel) (why string) {
	s := &t.spec
	switch {
	case s.Path == PathRing:
		return "as asked for"
	case !s.local():
		return "not an interface of this host"
	case t.sieve != nil:
		return "the filter has tests that no kernel program can do: the tap looks at frames again"
	}
	if t.tunnelsOnly() {
		return t.chooseMirror(k)
	}
	if !k.forced {
		if t.to.records() {
			return "flow records tell applications, names and TCP's quality, for which the tap sees whole frames; --path tcx counts packets in the kernel for less"
		}
		return "whole frames are wanted here"
	}
	return t.chooseSource(k)
}

// tunnelsOnly reports whether all that is wanted are copies for other hosts.
func (t *Tap) tunnelsOnly() bool {
	d := &t.to
	if len(d.frames) == 0 || d.records() || d.discardFrames || len(d.sflow) > 0 {
		return false
	}
	return !slices.ContainsFunc(d.frames, func(f frameTo) bool { return f.tunnel == nil })
}

// chooseMirror finds out whether the kernel can make all copies by itself, and whether it should: copies that it makes are paid for by
// the sender of the frames, those of user space by another processor.
func (t *Tap) chooseMirror(k *inKernel) (why string) {
	s := &t.spec
	if s.Limit.Frames != 0 || s.Limit.Bytes != 0 {
		return "frames are counted to a limit in user space"
	}
	less := true // every destination gets a part only
	for _, d := range t.to.frames {
		w, why := t.wish(d)
		if why != "" {
			return d.to + ": " + why
		}
		less = less && (w.filter != "" || w.sample.Rate > 1)
		k.wishes = append(k.wishes, w)
	}
	if !k.forced && !less && !k.alone {
		return "everything is wanted: user space forwards it on another processor; --path tcx copies in the kernel, which the sender of each frame pays for"
	}
	k.product = mirrorProduct
	k.why = "copies that are filtered or sampled, and go only to other hosts, are made in the kernel"
	if !less {
		k.why = "copies that go only to other hosts can be made in the kernel"
	}
	return ""
}

// wish returns what the kernel would do for a destination, or why it cannot.
func (t *Tap) wish(d frameTo) (w mirrorWish, why string) {
	s := &t.spec
	w.to = d.to
	if why = d.tunnel.OnlyHere(); why != "" {
		return w, why
	}
	if d.tunnel.NetNS != s.NetNS {
		return w, "copies leave from another network namespace than that of the interfaces"
	}
	for _, expr := range []string{s.Filter, d.own.filter} {
		switch {
		case expr == "":
		case w.filter == "":
			w.filter = expr
		default:
			w.filter = "(" + w.filter + ") and (" + expr + ")"
		}
	}
	if err := kernel.CanFilter(w.filter, s.filterOptions()); errors.Is(err, kernel.ErrResidual) {
		return w, err.Error()
	}
	w.keep = s.SnapLen
	for _, g := range []*groom.Spec{s.Groom, d.own.groom} {
		if why = w.groom(g); why != "" {
			return w, why
		}
	}
	if w.keep != 0 && w.keep < kernel.MinKeep {
		return w, fmt.Sprintf("frames are cut to %d bytes: the kernel leaves at least %d", w.keep, kernel.MinKeep)
	}
	return w, ""
}

// groom adds groom steps.
func (w *mirrorWish) groom(g *groom.Spec) (why string) {
	if g == nil {
		return ""
	}
	if g.Strip != nil || g.Dedup != nil || g.Mask != nil || g.Tag != nil || g.Balance != nil {
		return "of the groom steps the kernel has sample and slice only"
	}
	if x := g.Sample; x != nil {
		if x.Keep != 0 || w.sample.Rate > 1 || x.Rate > kernel.MaxRate {
			return "such a sample is drawn in user space"
		}
		w.sample = kernel.Sample{Rate: x.Rate, Mode: kernel.SampleMode(x.Mode)}
	}
	if x := g.Slice; x != nil {
		if x.Drop || x.AfterPackets > 0 || x.AfterBytes > 0 || x.At.Inner || x.At.Layer != groom.L2 || x.At.Offset <= 0 {
			return "the kernel slices at a fixed length only"
		}
		if w.keep == 0 || x.At.Offset < w.keep {
			w.keep = x.At.Offset
		}
	}
	return ""
}

// chooseSource finds out which source of the kernel can do for the tap what it is asked for.
func (t *Tap) chooseSource(k *inKernel) (why string) {
	s := &t.spec
	t.sampleInKernel(k)
	switch {
	case t.to.records() && len(t.to.frames) == 0 && !t.to.discardFrames && len(t.to.sflow) == 0 && s.SnapLen == 0:
		switch {
		case s.Groom != nil:
			return "groom steps but a sample need frames: give --snap 160 to have the kernel hand headers over, or --path ring"
		case s.Biflow:
			return "the kernel's flow table knows no two directions together: leave --biflow out, give --snap 160, or --path ring"
		case s.Limit.Frames != 0 || s.Limit.Bytes != 0:
			return "frames that are counted in the kernel cannot be counted to a limit"
		}
		k.product, k.why = flowsProduct, "packets are counted in the kernel"
	case s.SnapLen == 0 || s.SnapLen > kernel.MaxKeep:
		return fmt.Sprintf("whole frames come through the packet ring: give --snap up to %d to have headers only, or --path ring", kernel.MaxKeep)
	default:
		k.product, k.why = headProduct, "headers only"
	}
	return ""
}

// sampleInKernel has the source draw the sample, where it is the first thing that groom would do.
func (t *Tap) sampleInKernel(k *inKernel) {
	g := t.spec.Groom
	if g == nil || g.Sample == nil || g.Repair != nil || g.Strip != nil || g.Dedup != nil {
		return
	}
	var w mirrorWish
	if w.groom(&groom.Spec{Sample: g.Sample}) != "" {
		return
	}
	k.sample, k.random = w.sample, w.sample.Mode != kernel.Every
	t.sample = uint32(w.sample.Rate)
	rest := *g
	rest.Sample = nil
	if t.spec.Groom = &rest; rest == (groom.Spec{}) {
		t.spec.Groom = nil
	}
}

// makeKernelSource makes the source when that is in the kernel. The first way is tried; what the kernel lacks is found when it opens.
func (t *Tap) makeKernelSource() (err error) {
	s, k := &t.spec, t.path
	c := kernel.Config{Interfaces: s.Interfaces, NetNS: s.NetNS, IngressOnly: s.IngressOnly, Promiscuous: s.Promiscuous, Way: k.ways[0], Filter: s.Filter, Options: s.filterOptions(),
		Sample: k.sample, Govern: t.governed != nil, Wait: s.Successor, Keeper: s.Keeper, Log: s.Log}
	t.window = nil // programs follow each other, not times
	ring := kernelRing(s.RingBytes)
	if k.product == headProduct {
		k.headers, err = kernel.NewHeaders(kernel.HeadersConfig{Config: c, Keep: max(s.SnapLen, kernel.MinKeep), RingBytes: ring, Ready: s.Ready})
		if err == nil {
			x := kernelHeaders{k.headers}
			t.source, t.at = x, x
		}
		return err
	}
	k.records = make(chan []flow.Record, flowsAhead)
	k.flows, err = kernel.NewFlows(kernel.FlowsConfig{
		Config: c, Idle: s.Idle, Active: s.Active, MaxFlows: s.MaxFlows, Domain: s.Domain, Tunnels: t.tunnelPorts(), Point: t.kernelPoint, RingBytes: ring, Ready: s.Ready,
	})
	if err == nil {
		x := &kernelFlows{k.flows, k.records}
		t.source, t.at = x, x
		t.books = append(t.books, k.flows.Records())
	}
	return err
}

// kernelRing is the size of the ring for what programs hand to user space.
func kernelRing(asked int) int { return min(max(asked/2, 1<<20), kernel.DefaultRing) }

// tunnelPorts are the ports of tunnels that the meter looks into.
func (t *Tap) tunnelPorts() []uint16 {
	if t.spec.Key == meter.KeyOuter {
		return nil
	}
	return t.spec.Tunnels.Ports()
}

// kernelPoint describes an observation point.
func (t *Tap) kernelPoint(index uint32) kernel.Point {
	p := t.point(index)
	name, _ := t.at.Interface(index)
	return kernel.Point{ID: p.ID, IfIndex: p.IfIndex, IfName: name, Name: t.spec.Name, Host: p.Host, Role: p.Role}
}

// outer turns what a sink wraps copies in into what the kernel wraps them in.
func outer(s *tunnel.Sink, keep int) (kernel.Outer, string) {
	o, why := s.Outer()
	stamp := kernel.NoStamp
	if o.Type3 {
		stamp = kernel.Stamp100Micros + kernel.Stamp(o.Granularity)
	}
	return kernel.Outer{
		Source: o.Source, Tool: o.Tool, Protocol: o.Protocol, Port: o.Port, TTL: o.TTL, DSCP: o.DSCP, DontFragment: o.DontFragment, Head: o.Head, Seq: o.Seq,
		ERSPAN: o.ERSPAN, Stamp: stamp, Index: o.Index, Rate: o.Rate, Device: o.Device, Fits: o.Fits, Slice: o.Slice, Keep: keep,
	}, why
}
