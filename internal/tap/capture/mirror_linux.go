package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
	"unsafe"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
	"crosstap/internal/ledger"
	"crosstap/internal/netns"
)

// MirrorConfig says where copies of remote mirrors arrive.
type MirrorConfig struct {
	Endpoints   []Endpoint
	NetNS       string // file of the network namespace of the sockets; "" for the process's own
	BufferBytes int    // of kernel memory for each socket
	SnapLen     int    // keep at most so many bytes of each frame; 0 for all
	Ready       func() // called once, when every socket receives
	Log         *slog.Logger
}

// Validate reports the first mistake.
func (c MirrorConfig) Validate() error {
	if len(c.Endpoints) == 0 {
		return errors.New("capture: no endpoint to listen on: name at least one")
	}
	for i, a := range c.Endpoints {
		for _, b := range c.Endpoints[:i] {
			if a.clashes(&b) {
				return fmt.Errorf("capture: listen %s and %s are the same place: name it once, with all sessions", b, a)
			}
		}
	}
	if c.BufferBytes < 0 || c.BufferBytes > maxRing {
		return fmt.Errorf("capture: socket buffer of %d bytes: must be at most %d", c.BufferBytes, maxRing)
	}
	if c.SnapLen < 0 {
		return fmt.Errorf("capture: snap length %d: must not be negative", c.SnapLen)
	}
	return nil
}

// clashes reports whether two endpoints would receive the same packets.
func (e *Endpoint) clashes(o *Endpoint) bool {
	if e.Encap.raw() != o.Encap.raw() || e.Port != o.Port || e.Encap.raw() && e.Encap != o.Encap {
		return false
	}
	return !e.Addr.IsValid() || !o.Addr.IsValid() || e.Addr == o.Addr
}

// Mirror receives what remote mirrors send and gives the frames that are inside, each with the place it comes from as its point.
type Mirror struct {
	points
	cfg  MirrorConfig
	book *ledger.Book
	log  *slog.Logger
}

// NewMirror returns a source for c. Sockets are opened by Run.
func NewMirror(c MirrorConfig) (*Mirror, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Mirror{cfg: c, log: log, book: ledger.New(Stage, ledger.Frames, mirrorReasons...)}, nil
}

// Book returns the source's account. Packets count as frames from the moment they are received.
func (m *Mirror) Book() *ledger.Book { return m.book }

// Run receives until ctx ends and returns nil. Run does not close out.
//
// While the next stage is slow, packets stay in the sockets' buffers; what finds no room there the kernel drops, and it is counted.
func (m *Mirror) Run(ctx context.Context, out chan<- frame.Batch) error {
	sockets, err := m.open()
	defer func() {
		for _, s := range sockets {
			unix.Close(s.fd)
		}
	}()
	if err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	if m.cfg.Ready != nil {
		m.cfg.Ready()
	}
	var g errgroup.Group
	for _, s := range sockets {
		g.Go(func() error { return s.run(ctx, out) })
	}
	return g.Wait()
}

// open opens the sockets of all endpoints.
func (m *Mirror) open() (all []*mirrorSocket, err error) {
	space, err := netns.Open(m.cfg.NetNS)
	if err != nil {
		return nil, err
	}
	defer space.Close()
	for i := range m.cfg.Endpoints {
		e := &m.cfg.Endpoints[i]
		list, err := m.listen(space, e)
		all = append(all, list...)
		if err != nil {
			return all, fmt.Errorf("listen %s: %w", e, err)
		}
		m.log.Info("listening for a remote mirror", "endpoint", e.String(), "buffer_bytes", list[0].granted)
	}
	return all, nil
}

// listen opens the socket of an endpoint: for all addresses one that takes IPv4 and IPv6, over IP one for each.
func (m *Mirror) listen(space *netns.Space, e *Endpoint) (all []*mirrorSocket, err error) {
	families := []int{unix.AF_INET6, unix.AF_INET}
	switch {
	case e.Addr.Is4():
		families = families[1:]
	case e.Addr.IsValid():
		families = families[:1]
	}
	for _, family := range families {
		fd := -1
		err = space.Do(func() (err error) { fd, err = bind(e, family); return err })
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) && !e.Addr.IsValid() {
			continue // a host without IPv6
		}
		if err != nil {
			return all, err
		}
		s := &mirrorSocket{mirror: m, endpoint: e, fd: fd, ip4: family == unix.AF_INET, gaps: gaps{book: m.book}, known: map[origin]*known{}}
		all = append(all, s)
		if err := s.prepare(m.cfg.BufferBytes); err != nil {
			return all, err
		}
		if !e.Encap.raw() && family == unix.AF_INET6 {
			break // it takes IPv4, too
		}
	}
	if len(all) > 0 {
		return all, nil
	}
	return nil, err
}

// mirrorSocket is one socket of an endpoint.
type mirrorSocket struct {
	mirror   *Mirror
	endpoint *Endpoint
	fd       int
	ip4      bool // packets of a raw socket begin with their IPv4 header
	granted  int

	gaps  gaps
	drops uint32 // of the kernel's counter, as far as they are in the book
	known map[origin]*known
	last  *known
	pool  packets
	wait  time.Time // for the next stage, once ctx has ended
}

// known is an origin with its point.
type known struct {
	origin
	point  *point
	shared bool // by several origins
}

// run receives until ctx ends.
func (s *mirrorSocket) run(ctx context.Context, out chan<- frame.Batch) error {
	fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}
	for {
		p := s.pool.get(ctx)
		if p == nil {
			break
		}
		n, err := p.receive(s.fd)
		if err != nil {
			p.free()
			return fmt.Errorf("capture: listen %s: %w", s.endpoint, err)
		}
		if n > 0 {
			s.pass(ctx, p, n, out)
			continue
		}
		p.free()
		s.overflow(s.dropped())
		if ctx.Err() != nil {
			break
		}
		_, _ = unix.Poll(fds, int(pollTimeout/time.Millisecond))
	}
	s.overflow(s.dropped())
	for _, k := range s.known {
		if !k.shared {
			s.gaps.missing(k.point, k.point.seq.rest())
		}
	}
	return nil
}

// overflow takes the kernel's counter of packets that found no room.
func (s *mirrorSocket) overflow(counter uint32) {
	if n := counter - s.drops; n != 0 && int32(n) > 0 {
		s.drops = counter
		s.gaps.drop(uint64(n))
	}
}

// dropped asks for the counter: behind the last packet that came none tells it.
func (s *mirrorSocket) dropped() uint32 {
	const soMeminfo, skDrops = 55, 8 // linux/sock_diag.h: SK_MEMINFO_DROPS
	var memory [skDrops + 1]uint32
	size := uint32(unsafe.Sizeof(memory))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_SOCKET, soMeminfo, uintptr(unsafe.Pointer(&memory[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 || size < uint32(unsafe.Sizeof(memory)) {
		return s.drops
	}
	return memory[skDrops]
}

// pass strips n packets and sends the frames on.
func (s *mirrorSocket) pass(ctx context.Context, p *packetBlock, n int, out chan<- frame.Batch) {
	s.strip(p, n)
	if len(p.frames) == 0 {
		p.free()
		return
	}
	s.send(ctx, frame.Batch{Frames: p.frames, Free: p.free}, out)
}

// strip makes the frames of n packets.
func (s *mirrorSocket) strip(p *packetBlock, n int) {
	book, now := s.mirror.book, time.Now().UnixNano()
	book.In(n)
	p.frames = p.frames[:0]
	for i := range n {
		if counter, ok := p.meta(i, &now); ok {
			s.overflow(counter)
		}
		if reason := s.one(p, i, now); reason != accepted {
			book.Drop(reason, 1)
		}
	}
	book.Hold(len(p.frames))
}

// one strips one packet.
func (s *mirrorSocket) one(p *packetBlock, i int, now int64) int {
	from := p.from(i)
	if !s.endpoint.accepts(from) {
		return DropMirrorSender
	}
	b := p.data(i)
	if s.ip4 && s.endpoint.Encap.raw() {
		n := 0
		if len(b) > 0 {
			n = int(b[0]&15) * 4
		}
		if n < 20 || n > len(b) {
			return DropMirrorHeader
		}
		b = b[n:]
	}
	var c copied
	reason := c.strip(s.endpoint, b)
	if reason != accepted && (reason != DropMirrorNoFrame || !c.hasSeq) {
		return reason // a marker without a frame has its place in the sequence
	}
	k := s.find(origin{s.endpoint.Encap, c.hasSession, c.session, from})
	if c.hasSeq && !k.shared {
		s.gaps.missing(k.point, k.point.seq.next(c.seq))
	}
	if reason != accepted {
		return reason
	}
	if s.endpoint.SenderTime && c.stamp.ok && !k.shared {
		now = k.point.time.time(c.stamp, now)
	}
	k.point.link.CompareAndSwap(0, uint32(c.link)+1)
	f := frame.Frame{Data: c.data, OrigLen: c.orig, TimeNS: now, Point: k.point.index, Link: c.link, Dir: c.dir}
	if snap := s.mirror.cfg.SnapLen; snap > 0 && len(f.Data) > snap {
		f.Data = f.Data[:snap:snap]
	}
	p.frames = append(p.frames, f)
	return accepted
}

// find returns the point of an origin. A socket remembers no more origins than there are points.
func (s *mirrorSocket) find(o origin) *known {
	if s.last != nil && s.last.origin == o {
		return s.last
	}
	k := s.known[o]
	if k == nil {
		k = &known{origin: o}
		k.point, k.shared = s.mirror.add(o.String())
		if len(s.known) < maxOrigins {
			s.known[o] = k
		}
		if !k.shared {
			s.mirror.log.Info("copies from", "origin", o.String())
		}
	}
	s.last = k
	return k
}

// send gives a batch to the next stage. After the end of ctx it does not wait for ever.
func (s *mirrorSocket) send(ctx context.Context, b frame.Batch, out chan<- frame.Batch) {
	book, n := s.mirror.book, len(b.Frames)
	defer book.Hold(-n)
	select {
	case out <- b:
		book.Out(n)
		return
	case <-ctx.Done():
	}
	if s.wait.IsZero() {
		s.wait = time.Now().Add(drainTimeout)
	}
	t := time.NewTimer(time.Until(s.wait))
	defer t.Stop()
	select {
	case out <- b:
		book.Out(n)
	case <-t.C:
		book.Drop(DropMirrorStopped, n)
		b.Release()
	}
}
