package export

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"crosstap/internal/choose"
	"crosstap/internal/filter"
	"crosstap/internal/flow"
	"crosstap/internal/flowproto/sflow"
	"crosstap/internal/frame"
	"crosstap/internal/ledger"
)

// Reasons under which frames are not sent as samples.
const (
	SFlowNotSampled = iota // another of the N was chosen
	SFlowFiltered          // the target's filter does not want them
	SFlowQueue             // samples found no room in the queue to the socket
	SFlowSend              // the system did not take the datagram, or there was no socket
)

// SFlowConfig says what is sampled and for whom.
type SFlowConfig struct {
	Target     SFlowTarget
	Interfaces []string                  // whose counters are sent
	NetNS      string                    // that they are in, "" for the process's own
	IfIndex    func(point uint32) uint32 // nil where points are no interfaces
	Lost       func(point uint32) uint64 // frames that nobody looked at, nil for none
	Capture    bool                      // frames come from a capture: wait for the socket instead of dropping
	Logger     *slog.Logger
}

// SFlow is an agent of sFlow v5: it chooses frames at random and sends their first bytes, and sends the counters of
// interfaces. It never holds up the line: samples that find no room are dropped and counted.
type SFlow struct {
	cfg     SFlowConfig
	book    *ledger.Book
	log     *slog.Logger
	enc     *sflow.Encoder
	points  []samplePoint
	filters map[frame.LinkType]*filter.Filter
	out     chan datagram
	free    chan []byte
	conn    atomic.Pointer[net.UDPConn]
	path    atomic.Pointer[pathMTU]
	agent   atomic.Pointer[netip.Addr]
	dialing sync.Mutex
	dials   sync.WaitGroup
	maxLen  atomic.Int64
	stats   struct{ datagrams, bytes, counters, failed atomic.Uint64 }
	header  [sflow.MaxHeader]byte
}

// samplePoint is the choice at one point.
type samplePoint struct {
	skip int64 // packets until the next one that is taken
	pool uint32
	used bool
}

type datagram struct {
	b       []byte
	packets int
}

const sflowQueue = 256

// NewSFlow returns an agent. It opens nothing.
func NewSFlow(c SFlowConfig) (*SFlow, error) {
	if c.Target.Sample == 0 {
		c.Target.Sample = DefaultSFlowRate
	}
	if c.Target.Header == 0 {
		c.Target.Header = DefaultSFlowHeader
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if _, err := choose.NewFilter(c.Target.Filter); err != nil {
		return nil, err
	}
	return &SFlow{
		cfg: c, log: c.Logger.With("collector", c.Target.String()),
		book:    ledger.New("sflow", ledger.Frames, "not_sampled", "filtered", "queue_full", "send_failed"),
		filters: make(map[frame.LinkType]*filter.Filter),
		out:     make(chan datagram, sflowQueue), free: make(chan []byte, sflowQueue),
	}, nil
}

// Book returns the account of frames: a frame is out when the system took the datagram with its sample.
func (s *SFlow) Book() *ledger.Book { return s.book }

// Where names the collector.
func (s *SFlow) Where() string { return s.cfg.Target.String() }

// Run samples the frames of every batch from in until it is closed, and sends what is left.
func (s *SFlow) Run(ctx context.Context, in <-chan frame.Batch) error {
	s.maxLen.Store(int64(maxMessage(s.cfg.Target.MTU, true)))
	s.enc = sflow.NewEncoder(flow.Addr{}, s.cfg.Target.SubAgent, time.Now(), 0)
	s.dial(ctx)
	s.adjust()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.send(ctx)
	}()
	defer func() {
		_ = s.enc.Flush(time.Now(), s.emit)
		close(s.out)
		<-done
		s.dials.Wait()
		if c := s.conn.Load(); c != nil {
			_ = c.Close()
		}
	}()
	flush := time.NewTicker(time.Second / 2) // a sample waits for a second at most (sFlow version 5, section 4.2.4)
	defer flush.Stop()
	counters, stop := s.ticker()
	defer stop()
	for {
		select {
		case b, ok := <-in:
			if !ok {
				return nil
			}
			s.batch(&b)
		case <-flush.C:
			_ = s.enc.Flush(time.Now(), s.emit)
			s.redial(ctx)
		case <-counters:
			s.counters()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ticker ticks at a random moment within the first interval, and then in each, so that agents do not all send at once.
func (s *SFlow) ticker() (<-chan time.Time, func()) {
	every := s.cfg.Target.Counters
	if every <= 0 || len(s.cfg.Interfaces) == 0 {
		return nil, func() {}
	}
	c, done := make(chan time.Time, 1), make(chan struct{})
	go func() {
		t := time.NewTimer(rand.N(every))
		defer t.Stop()
		for {
			select {
			case now := <-t.C:
				t.Reset(every)
				select {
				case c <- now:
				default:
				}
			case <-done:
				return
			}
		}
	}()
	return c, func() { close(done) }
}

// redial tries again, beside the line, when there is no socket.
func (s *SFlow) redial(ctx context.Context) {
	if s.conn.Load() == nil && s.dialing.TryLock() {
		s.dials.Go(func() {
			defer s.dialing.Unlock()
			s.dial(ctx)
		})
	}
}

// dial opens a socket. Without one samples are counted as not sent.
func (s *SFlow) dial(ctx context.Context) {
	t := &s.cfg.Target
	d := net.Dialer{Timeout: retryAfter}
	if t.Source.IsValid() {
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(t.Source, 0))
	}
	c, err := d.DialContext(ctx, "udp", t.address())
	if err != nil {
		s.log.Warn("cannot send samples", "error", err)
		return
	}
	conn := c.(*net.UDPConn)
	path := pathMTU{v6: conn.RemoteAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().Is6(), wanted: t.MTU}
	if err := dontFragment(conn, path.v6); err != nil {
		s.log.Debug("path MTU discovery is not available", "error", err)
	}
	s.maxLen.Store(int64(path.message(conn)))
	agent := t.Agent
	if !agent.IsValid() {
		agent = conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	}
	s.agent.Store(&agent)
	s.path.Store(&path)
	s.conn.Store(conn)
}

// adjust gives the encoder what dial has found out.
func (s *SFlow) adjust() {
	s.enc.SetMaxLen(int(s.maxLen.Load()))
	if a := s.agent.Load(); a != nil {
		s.enc.SetAgent(flow.FromNetip(*a))
	}
}

// batch chooses frames of a batch.
func (s *SFlow) batch(b *frame.Batch) {
	now := time.Now()
	s.book.In(len(b.Frames))
	s.adjust()
	for i := range b.Frames {
		f := &b.Frames[i]
		if !s.wants(f) {
			s.book.Drop(SFlowFiltered, 1)
			continue
		}
		if taken := s.choose(f, now); !taken {
			s.book.Drop(SFlowNotSampled, 1)
		}
	}
	b.Release()
}

// wants applies the target's filter.
func (s *SFlow) wants(f *frame.Frame) bool {
	if s.cfg.Target.Filter == "" {
		return true
	}
	m, ok := s.filters[f.Link]
	if !ok {
		m, _ = filter.Compile(s.cfg.Target.Filter, f.Link, filter.Options{}) // a link that cannot be filtered matches nothing
		s.filters[f.Link] = m
	}
	return m != nil && m.MatchFrame(f)
}

// choose counts the packets of a frame and reports whether one was taken. Of a super-frame, which is several packets on the
// wire, at most one is.
func (s *SFlow) choose(f *frame.Frame, now time.Time) bool {
	for int(f.Point) >= len(s.points) {
		s.points = append(s.points, samplePoint{})
	}
	p := &s.points[f.Point]
	if !p.used {
		p.used, p.skip = true, s.next()
	}
	n, length := segments(f)
	p.pool += uint32(n)
	if p.skip -= int64(n); p.skip > 0 {
		return false
	}
	if last := p.skip == 0 && n > 1; last {
		length = max(f.OrigLen, len(f.Data)) - (n-1)*int(f.VNet.Segment)
	}
	for p.skip <= 0 {
		p.skip += s.next()
	}
	s.take(f, p, uint32(length), now)
	return true
}

// next returns how many packets on the next one is taken: N on average, evenly from 1 to 2N-1.
func (s *SFlow) next() int64 { return 1 + rand.Int64N(2*int64(s.cfg.Target.Sample)-1) }

// take puts a sample of a frame into the datagram.
func (s *SFlow) take(f *frame.Frame, p *samplePoint, length uint32, now time.Time) {
	const fcs = 4
	header := s.header[:copy(s.header[:s.cfg.Target.Header], f.Data)]
	x := sflow.FlowSample{
		Rate: s.cfg.Target.Sample, Pool: p.pool, In: sflow.Unknown, Out: sflow.Unknown, Protocol: sflow.HeaderEthernet,
		FrameLen: length + fcs, Stripped: fcs, Header: header,
	}
	if s.cfg.IfIndex != nil {
		x.Source = s.cfg.IfIndex(f.Point)
	}
	if s.cfg.Lost != nil {
		x.Drops = uint32(s.cfg.Lost(f.Point))
	}
	if f.Dir == frame.Egress {
		x.Out = x.Source
	} else {
		x.In = x.Source
	}
	if proto, ok := linkProtocol(f); ok {
		x.Protocol, x.FrameLen, x.Stripped = proto, length, 0
	}
	if f.VNet.Type != frame.GSONone {
		shorten(header, int(length))
	}
	s.book.Hold(1)
	_ = s.enc.AddFlow(&x, now, s.emit)
}

// counters puts the counters of every interface into the datagram.
func (s *SFlow) counters() {
	all, err := interfaceCounters(s.cfg.Interfaces, s.cfg.NetNS)
	if err != nil {
		s.log.Warn("cannot read the counters of interfaces", "error", err)
	}
	for i := range all {
		_ = s.enc.AddCounters(&all[i], time.Now(), s.emit)
		s.stats.counters.Add(1)
	}
	_ = s.enc.Flush(time.Now(), s.emit)
}

// emit queues a datagram.
func (s *SFlow) emit(msg []byte, packets int) error {
	var b []byte
	select {
	case b = <-s.free:
	default:
	}
	d := datagram{append(b[:0], msg...), packets}
	if s.cfg.Capture {
		s.out <- d
		return nil
	}
	select {
	case s.out <- d:
	default:
		s.lost(SFlowQueue, packets)
	}
	return nil
}

func (s *SFlow) lost(reason, packets int) {
	s.book.Hold(-packets)
	s.book.Drop(reason, packets)
}

// send writes what is queued.
func (s *SFlow) send(ctx context.Context) {
	for d := range s.out {
		err := net.ErrClosed
		if c := s.conn.Load(); c != nil && ctx.Err() == nil {
			_ = c.SetWriteDeadline(time.Now().Add(writeTimeout))
			_, err = c.Write(d.b)
			if errors.Is(err, syscall.ECONNREFUSED) { // of an earlier one
				_, err = c.Write(d.b)
			}
			if errors.Is(err, syscall.EMSGSIZE) {
				s.maxLen.Store(int64(s.path.Load().narrower(c, len(d.b))))
			}
		}
		if err != nil {
			s.stats.failed.Add(1)
			s.lost(SFlowSend, d.packets)
		} else {
			s.book.Hold(-d.packets)
			s.book.Out(d.packets)
			s.stats.datagrams.Add(1)
			s.stats.bytes.Add(uint64(len(d.b)))
		}
		select {
		case s.free <- d.b:
		default:
		}
	}
}
