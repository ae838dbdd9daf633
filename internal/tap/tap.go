// Package tap is the tap wing: it turns a spec into a running line from a copy point to the files of its frames and the
// collectors of its flow records: capture → filter → groom → deliver, and → meter → export beside it.
package tap

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"

	"crosstap/internal/dissect"
	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"crosstap/internal/ledger"
	"crosstap/internal/tap/capture"
	"crosstap/internal/tap/deliver"
	"crosstap/internal/tap/export"
	"crosstap/internal/tap/groom"
	"crosstap/internal/tap/meter"
	"crosstap/internal/tap/sift"
)

// source is the first stage of a tap.
type source interface {
	Run(ctx context.Context, out chan<- frame.Batch) error
	Book() *ledger.Book
}

// recordSink is the last stage for flow records.
type recordSink interface {
	Run(ctx context.Context, in <-chan []flow.Record) error
}

// frameSink is the last stage for frames.
type frameSink interface {
	Run(ctx context.Context, in <-chan frame.Batch) error
	Book() *ledger.Book
	Where() string
}

// Tap is a tap line, made but not running.
type Tap struct {
	spec   Spec
	to     destinations
	source source
	live   *capture.Live // source, when it captures from interfaces
	file   *capture.File // source, when it reads a file
	at     places        // source, when it is no file
	kernel kernelFilter
	sieve  *sift.Sieve     // nil: all frames go on
	limit  *limiter        // nil: without end
	groom  *groom.Pipeline // nil: as they are
	warned bool            // that dedup will find nothing
	sample uint32          // groom passes one frame in so many on
	meter  *meter.Meter    // nil: no flow records are wanted
	flows  []recordSink
	frames []frameSink
	books  []*ledger.Book

	governed *governed // nil: without a budget
	shedder  *shedder
	window   *window
	epochs   *epochs
	shut     atomic.Bool // destinations of frames get none, for the budget

	remotes []remote // destinations to be opened before the capture begins
	path    *inKernel
	pair    *pair // nil: the source is no inline pair

	elsewhere bool // it is for another host, of whose processors this one knows nothing

	stopSource atomic.Pointer[context.CancelFunc] // set by Run
	stopped    chan struct{}                      // closed when Run shall end
}

// New returns the tap that s describes. It opens nothing. The error of a filter's expression is a *filter.Error.
func New(s Spec) (*Tap, error) {
	t, err := begin(s)
	if err != nil {
		return nil, err
	}
	t.makeGoverned()
	for _, step := range []func() error{t.makePair, t.makeFilter, t.makePath, t.makeSource, t.makeGroom, t.makeMeter, t.makeRecordSinks, t.makeFrameSinks} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// begin returns a tap of which the destinations are known.
func begin(s Spec) (t *Tap, err error) {
	s.splitRemotes()
	if err = s.Validate(); err != nil {
		return nil, err
	}
	t = &Tap{spec: s, stopped: make(chan struct{})}
	t.to, err = s.destinations()
	return t, err
}

func (t *Tap) makeSource() (err error) {
	s := &t.spec
	snap := s.SnapLen
	if t.sieve != nil {
		snap = 0 // the filter sees whole frames, and cuts what goes on
	}
	switch {
	case len(s.Listen) > 0:
		err = t.makeMirror(snap)
	case len(s.Remotes) > 0:
		err = t.makeRemote(snap)
	case s.File != "":
		t.file, err = capture.NewFile(capture.FileConfig{Path: s.File, SnapLen: snap})
		t.source = t.file
	case t.path.product == flowsProduct || t.path.product == headProduct:
		err = t.makeKernelSource()
	default:
		t.live, err = capture.NewLive(capture.LiveConfig{
			Interfaces: s.Interfaces, NetNS: s.NetNS, RingBytes: s.RingBytes, SnapLen: snap, Filter: t.kernel.program(s),
			Promiscuous: s.Promiscuous, IngressOnly: s.IngressOnly, Ready: s.Ready, Log: s.Log, Govern: t.translator(),
		})
		t.source, t.at = t.live, t.live
	}
	if err != nil {
		return err
	}
	t.books = append(t.books, t.source.Book())
	if t.window != nil {
		t.books = append(t.books, t.window.book)
	}
	if t.shedder != nil {
		t.books = append(t.books, t.shedder.book)
	}
	if t.sieve != nil {
		t.books = append(t.books, t.sieve.Book())
	}
	if s.Limit != (Limit{}) {
		t.limit = newLimiter(s.Limit, t.stop)
		t.books = append(t.books, t.limit.book)
	}
	return nil
}

func (t *Tap) makeGroom() error {
	if t.spec.Groom == nil {
		return nil
	}
	spec := *t.spec.Groom
	if spec.Sample != nil {
		t.sample = uint32(spec.Sample.Rate)
	}
	t.warnDedup(&spec)
	c := groom.Config{Spec: spec, Dissector: dissect.New(t.spec.Tunnels), Interface: t.interfaceName}
	var err error
	if t.groom, err = groom.New(c); err != nil {
		return err
	}
	if n := t.groom.Outputs(); n > 1 && (n != len(t.to.frames) || t.to.discardFrames || len(t.to.sflow) > 0) {
		return fmt.Errorf("tap: groom: balance over %d outputs: %d capture files or tools to send to; name one for each, and no null:frames or sflow", n, len(t.to.frames))
	}
	t.books = append(t.books, t.groom.Books()...)
	return nil
}

// warnDedup says when duplicates cannot be found: those of the only interface are taken for packets that were sent again. A file may
// have several interfaces, and a tunnel that is stripped has a place where it comes from.
func (t *Tap) warnDedup(s *groom.Spec) {
	if s.Dedup != nil && !s.Dedup.SamePoint && s.Strip == nil && len(t.spec.Interfaces) == 1 && t.spec.Log != nil {
		t.spec.Log.Warn("dedup will find nothing: a duplicate comes from another copy point, and this tap has one; give dedup/same-point to drop repeated frames of one interface",
			"interface", t.spec.Interfaces[0])
		t.warned = true
	}
}

func (t *Tap) makeMeter() (err error) {
	if !t.to.records() {
		return nil
	}
	c := t.spec.meterConfig()
	c.Dissector = dissect.New(t.spec.Tunnels)
	c.Point, c.Sampling = t.point, max(t.sample, 1)
	if t.meter, err = meter.New(c); err == nil {
		t.books = append(t.books, t.meter.Books()...)
	}
	return err
}

// point describes an observation point to the meter. Points are numbered from 1: an exporter shows 0 as "not known".
func (t *Tap) point(index uint32) meter.Point {
	p := meter.Point{ID: uint64(index) + 1, Name: t.spec.Name, Host: t.spec.Host, Role: t.spec.Role}
	if t.at == nil {
		p.IfName = t.file.Interface(index)
		return p
	}
	name, ifIndex := t.at.Interface(index)
	if t.live != nil {
		p.IfName = name
	}
	if p.IfIndex = ifIndex; p.Name == "" && t.live == nil {
		p.Name = name
	}
	return p
}

func (t *Tap) makeRecordSinks() error {
	if len(t.to.targets) > 0 {
		c := export.DefaultConfig()
		c.Targets, c.Domain, c.Logger, c.Wait = t.to.targets, t.spec.Domain, t.spec.Log, t.spec.File != ""
		c.SpoolDir, c.About = t.spec.SpoolDir, t.about
		e, err := export.New(c)
		if err != nil {
			return fmt.Errorf("tap: %w", err)
		}
		t.flows, t.books = append(t.flows, e), append(t.books, e.Books()...)
	}
	if t.to.lines {
		l := deliver.NewLines(t.spec.Stdout)
		l.Alone, l.Wait, l.Log = !t.to.several(), !t.to.several() || t.spec.File != "", t.spec.Log
		t.flows, t.books = append(t.flows, l), append(t.books, l.Book())
	}
	if t.to.null {
		n := deliver.NewNull()
		t.flows, t.books = append(t.flows, n), append(t.books, n.Book())
	}
	return nil
}

func (t *Tap) makeFrameSinks() error {
	for _, d := range t.to.frames {
		f, err := t.newFrameSink(d)
		if err != nil {
			return err
		}
		t.frames = append(t.frames, f)
	}
	if t.to.discardFrames {
		t.frames = append(t.frames, deliver.NewDiscard())
	}
	for _, c := range t.to.sflow {
		s, err := t.sflow(c)
		if err != nil {
			return err
		}
		t.frames = append(t.frames, s)
	}
	for _, f := range t.frames {
		t.books = append(t.books, f.Book())
	}
	return nil
}

// newFrameSink returns the sink of one destination.
func (t *Tap) newFrameSink(d frameTo) (frameSink, error) {
	switch {
	case d.to == "frames:-":
		l := deliver.NewListing(t.spec.Stdout, t.interfaceName, dissect.New(t.spec.Tunnels))
		if l.Log = t.spec.Log; !t.to.several() {
			return l, nil
		}
		l.Again = true
		return t.newBranch(d.to, d.own, l, false)
	case strings.HasPrefix(d.to, "rpcap"):
		return t.newRPCAP(d.to, d.rest, d.own)
	}
	if d.file != nil {
		return t.newFile(d)
	}
	return t.newRemote(d)
}

// describe fills in what a capture file says of the tap.
func (t *Tap) describe(c *deliver.FileConfig) {
	s := &t.spec
	c.Stdout, c.Program, c.Hardware, c.OS = s.Stdout, s.Program, hardware(), system()
	c.Tap, c.Filter, c.SnapLen, c.Input = s.Name, s.Filter, s.SnapLen, s.File
	c.Interface, c.Counts, c.Failed = t.interfaceName, t.counts, t.stop
	c.Log, c.Unopened, c.Keep, c.Stopped = s.Log, s.Persist, s.Persist, t.stopped
	if t.live != nil {
		c.Quiet = t.links
	}
	if t.file != nil {
		c.Unit, c.Quiet = t.file.Unit, t.file.Links
		c.Section, c.Describe, c.Beside = t.file.Section, t.file.Described, t.file.Beside
		c.Masked = s.Groom != nil && s.Groom.Mask != nil
	}
	if t.groom != nil {
		c.Label = t.groom.Labels()
	}
}

// links returns the link types of the interfaces, as far as all before them were captured.
func (t *Tap) links() (all []frame.LinkType) {
	for point := range t.spec.Interfaces {
		link, ok := t.live.Link(uint32(point))
		if !ok {
			break
		}
		all = append(all, link)
	}
	return all
}

// interfaceName returns the name of a point's interface.
func (t *Tap) interfaceName(point uint32) string {
	if t.at != nil {
		name, _ := t.at.Interface(point)
		return name
	}
	return t.file.Interface(point)
}

// counts returns what is known of a point.
func (t *Tap) counts(point uint32) (c deliver.Counts) {
	if t.at != nil {
		c.Lost, c.Missed = t.at.Lost(point), t.at.Missed(point)
	} else {
		c.Lost, c.Missed = t.file.Dropped(point)
	}
	if t.sieve != nil {
		n := t.sieve.Tally(point)
		c.Received, c.Matched = n.In+c.Lost, n.Out
	}
	return c
}
