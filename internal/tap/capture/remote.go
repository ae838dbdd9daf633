package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/bpf"

	"crosstap/internal/frame"
	"crosstap/internal/ledger"
	"crosstap/internal/netns"
	"crosstap/internal/rpcap"
)

// RemoteConfig says which interfaces of other hosts to capture from, by libpcap's remote capture.
type RemoteConfig struct {
	Targets     []rpcap.Target // their order gives the frames' Point
	NetNS       string         // file of the network namespace to connect from; "" for the process's own
	SnapLen     int            // 0 for all
	Promiscuous bool
	// Filter returns the program for interfaces of a link type, with VLAN tags in the frames; nil for all frames.
	Filter func(frame.LinkType) ([]bpf.RawInstruction, error)
	Ready  func() // called once, when every interface is being captured from
	Log    *slog.Logger
}

// Remote captures from interfaces of other hosts.
type Remote struct {
	points
	cfg   RemoteConfig
	book  *ledger.Book
	log   *slog.Logger
	all   []*remoteInterface
	space *netns.Space
}

// Reasons under which frames of a remote capture are dropped.
const (
	DropRemoteKernel  = iota // the remote end had no room for them, or its connection was slow
	DropRemoteDevice         // the interface there dropped them
	DropRemoteStopped        // the source was told to stop before the next stage took them
)

// NewRemote returns a source for c. It connects in Run.
func NewRemote(c RemoteConfig) (*Remote, error) {
	if len(c.Targets) == 0 {
		return nil, errors.New("capture: no remote interface: name at least one")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	r := &Remote{cfg: c, log: c.Log, book: ledger.New(Stage, ledger.Frames, "remote_dropped", "remote_interface_dropped", "stopped")}
	for i, t := range c.Targets {
		if t.Device == "" {
			return nil, fmt.Errorf("capture: %s: no interface: name one of that host's", t)
		}
		for _, o := range c.Targets[:i] {
			if o.String() == t.String() {
				return nil, fmt.Errorf("capture: %s is named twice", t)
			}
		}
		p, _ := r.add(t.String())
		r.all = append(r.all, &remoteInterface{remote: r, target: t, point: p})
	}
	return r, nil
}

// Book returns the source's account. What the remote end says that it has dropped is in it.
func (r *Remote) Book() *ledger.Book { return r.book }

// Run captures until ctx ends and returns nil. A connection that is lost is made again. Run does not close out.
//
// While the next stage is slow nothing is read, so that the remote end drops what it has no room for; its count is asked for each
// second.
func (r *Remote) Run(ctx context.Context, out chan<- frame.Batch) error {
	var err error
	if r.space, err = netns.Open(r.cfg.NetNS); err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	defer r.space.Close()
	for _, i := range r.all {
		if err := i.connect(ctx); err != nil {
			for _, i := range r.all {
				i.close()
			}
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("capture: %w", err)
		}
	}
	if r.cfg.Ready != nil {
		r.cfg.Ready()
	}
	var all sync.WaitGroup
	for _, i := range r.all {
		all.Go(func() { i.run(ctx, out) })
	}
	all.Wait()
	return nil
}

// remoteInterface is one interface of another host.
type remoteInterface struct {
	remote *Remote
	target rpcap.Target
	point  *point
	client *rpcap.Client
	stats  rpcap.Stats // of this connection, as far as they are in the book
	pool   remoteBlocks
}

// connect logs in and starts the capture.
func (i *remoteInterface) connect(ctx context.Context) error {
	r := i.remote
	cc := rpcap.CaptureConfig{Device: i.target.Device, SnapLen: r.cfg.SnapLen, Promiscuous: r.cfg.Promiscuous, Sampling: i.target.Sampling}
	if !i.target.Here {
		cc.Filter = r.cfg.Filter
	}
	return r.space.Do(func() error {
		c, err := rpcap.Dial(ctx, i.target.ClientConfig)
		if err != nil {
			return err
		}
		link, err := c.Start(ctx, cc)
		if err != nil {
			err = i.others(c, err)
			c.Close()
			return err
		}
		i.client, i.stats = c, rpcap.Stats{}
		i.point.link.Store(uint32(link) + 1)
		r.log.Info("capturing", "interface", i.target.String(), "link_type", link)
		return nil
	})
}

// others adds to an error the interfaces that there are, when it is about that.
func (i *remoteInterface) others(c *rpcap.Client, err error) error {
	var e *rpcap.Error
	if !errors.As(err, &e) || e.Code != rpcap.CodeOpen {
		return err
	}
	list, _ := c.Interfaces()
	var names []string
	for _, x := range list {
		names = append(names, x.Name)
	}
	if len(names) == 0 {
		return err
	}
	return fmt.Errorf("%w; there are: %s", err, strings.Join(names, ", "))
}

func (i *remoteInterface) close() {
	if i.client != nil {
		i.client.Close()
		i.client = nil
	}
}

// again is how long to wait before a lost connection is made again.
const again = 2 * time.Second

// run captures until ctx ends, over as many connections as it takes.
func (i *remoteInterface) run(ctx context.Context, out chan<- frame.Batch) {
	for {
		err := i.session(ctx, out)
		if ctx.Err() != nil {
			return
		}
		i.remote.log.Warn("connection lost: it is made again", "interface", i.target.String(), "error", err)
		for i.client == nil {
			select {
			case <-time.After(again):
			case <-ctx.Done():
				return
			}
			if err := i.connect(ctx); err != nil && ctx.Err() == nil {
				i.remote.log.Warn("not connected; trying again", "interface", i.target.String(), "error", err)
			}
		}
	}
}

// session reads frames until the connection or ctx ends.
func (i *remoteInterface) session(ctx context.Context, out chan<- frame.Batch) error {
	ended, over := make(chan struct{}), make(chan struct{})
	client := i.client
	go func() { // asks for figures, and ends the reading
		defer close(over)
		i.watch(ctx, client, ended)
	}()
	defer func() { close(ended); <-over; i.close() }()
	for {
		b := i.pool.get(ctx)
		if b == nil {
			return nil
		}
		err := i.fill(b)
		i.send(ctx, b, out)
		if err != nil {
			return err
		}
	}
}

// watch asks the remote end for what it has dropped, each second and at the end, until the session has ended. At the end of ctx it closes
// the connection.
func (i *remoteInterface) watch(ctx context.Context, c *rpcap.Client, ended <-chan struct{}) {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if !i.ask(c) {
				c.Close()
				<-ended
				return
			}
		case <-ctx.Done():
			i.ask(c)
			c.Close()
			<-ended
			return
		case <-ended:
			return
		}
	}
}

// ask brings the remote end's figures into the book; false when it does not answer.
func (i *remoteInterface) ask(c *rpcap.Client) bool {
	s, err := c.Stats()
	if err != nil {
		return false
	}
	kernel, device := s.KernelDropped-i.stats.KernelDropped, s.InterfaceDropped-i.stats.InterfaceDropped
	if int32(kernel) < 0 || int32(device) < 0 { // a remote end that counts backwards
		kernel, device = 0, 0
	}
	i.stats = s
	book := i.remote.book
	book.In(int(kernel + device))
	book.Drop(DropRemoteKernel, int(kernel))
	book.Drop(DropRemoteDevice, int(device))
	i.point.lost.Add(uint64(kernel + device))
	return true
}

// fill reads frames: one that it waits for, and those that have come with it.
func (i *remoteInterface) fill(b *remoteBlock) error {
	b.frames, b.mem = b.frames[:0], b.mem[:0]
	for len(b.frames) < batchFrames && len(b.mem) < chunkBytes {
		f, mem, err := i.client.Next(b.mem)
		if err != nil {
			return err
		}
		b.mem = mem
		f.Point = i.point.index
		b.frames = append(b.frames, f)
		if i.client.Buffered() == 0 {
			break
		}
	}
	return nil
}

// send gives the frames of a block to the next stage.
func (i *remoteInterface) send(ctx context.Context, b *remoteBlock, out chan<- frame.Batch) {
	book, n := i.remote.book, len(b.frames)
	if n == 0 {
		b.free()
		return
	}
	book.In(n)
	book.Hold(n)
	defer book.Hold(-n)
	batch := frame.Batch{Frames: b.frames, Free: b.free}
	select {
	case out <- batch:
		book.Out(n)
		return
	case <-ctx.Done():
	}
	t := time.NewTimer(drainTimeout)
	defer t.Stop()
	select {
	case out <- batch:
		book.Out(n)
	case <-t.C:
		book.Drop(DropRemoteStopped, n)
		batch.Release()
	}
}

// remoteBlock is a batch of frames and their bytes.
type remoteBlock struct {
	mem    []byte
	frames []frame.Frame
	free   func() // bound once
}

// remoteBlocks lends blocks; no more than maxRemoteBlocks are out.
type remoteBlocks struct {
	once sync.Once
	free chan *remoteBlock
}

const maxRemoteBlocks = 16

// get waits for a block; nil when ctx ends before there is one.
func (p *remoteBlocks) get(ctx context.Context) *remoteBlock {
	p.once.Do(func() {
		p.free = make(chan *remoteBlock, maxRemoteBlocks)
		for range maxRemoteBlocks {
			b := &remoteBlock{frames: make([]frame.Frame, 0, batchFrames)}
			b.free = func() { p.free <- b }
			p.free <- b
		}
	})
	select {
	case b := <-p.free:
		return b
	case <-ctx.Done():
		return nil
	}
}
