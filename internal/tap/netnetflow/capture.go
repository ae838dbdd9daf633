package netnetflow

import (
	"context"
	"fmt"

	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"crosstap/internal/tap/capture"
)

// portCapture captures one port.
type portCapture struct {
	live   *capture.Live
	point  uint32
	cancel context.CancelFunc
	ready  chan struct{} // closed when frames are captured
	done   chan struct{}
	err    error // valid after done
}

// end stops the capture and waits for its last frames.
func (c *portCapture) end() {
	c.cancel()
	<-c.done
}

func (c *portCapture) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// capture begins to capture a port. The frames that enter the switch there go to out.
func (l *line) capture(all context.Context, p port, point uint32, out chan<- frame.Batch) (*portCapture, error) {
	c := &portCapture{point: point, ready: make(chan struct{}), done: make(chan struct{})}
	lc := capture.DefaultLiveConfig()
	lc.Interfaces, lc.NetNS, lc.RingBytes, lc.SnapLen = []string{p.name}, l.cfg.NetNS, l.cfg.RingBytes, l.cfg.SnapLen
	lc.IngressOnly, lc.Log = !p.host, l.log
	lc.Promiscuous = false // a port of a bridge is so anyhow
	lc.Ready = func() { close(c.ready) }
	var err error
	if c.live, err = capture.NewLive(lc); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(all)
	c.cancel = cancel
	batches := make(chan frame.Batch, 1)
	go func() {
		defer close(batches)
		c.err = c.live.Run(ctx, batches)
	}()
	go func() {
		defer close(c.done)
		defer c.cancel()
		for b := range batches {
			l.pass(all, b, p, point, out)
		}
		if c.err != nil {
			c.err = fmt.Errorf("port %s: %w", p.name, c.err)
		}
	}()
	return c, nil
}

// pass sends the frames of a batch on that enter the switch.
func (l *line) pass(all context.Context, b frame.Batch, p port, point uint32, out chan<- frame.Batch) {
	l.enter.In(len(b.Frames))
	entering := frame.Ingress
	if p.host {
		entering = frame.Egress // what the machine sends
	}
	kept := b.Frames[:0]
	for i := range b.Frames {
		f := &b.Frames[i]
		if f.Dir != entering {
			continue
		}
		if f.Link == frame.LinkEthernet && len(f.Data) >= 14 {
			l.places.learn(flow.MACFrom(f.Data[6:]), point)
		}
		f.Point, f.Dir = point, frame.Ingress
		kept = append(kept, *f)
	}
	l.enter.Drop(dropLeaving, len(b.Frames)-len(kept))
	b.Frames = l.sample(kept)
	n := len(b.Frames)
	if n == 0 {
		b.Release()
		return
	}
	select {
	case out <- b:
		l.enter.Out(n)
	case <-all.Done():
		l.enter.Drop(dropStopped, n)
		b.Release()
	}
}

// sample keeps one frame in so many, counted over all ports.
func (l *line) sample(frames []frame.Frame) []frame.Frame {
	every := uint64(l.cfg.Sampling)
	if every <= 1 {
		return frames
	}
	last := l.seen.Add(uint64(len(frames)))
	number := last - uint64(len(frames))
	kept := frames[:0]
	for i := range frames {
		if (number+uint64(i))%every == 0 {
			kept = append(kept, frames[i])
		}
	}
	l.enter.Drop(dropSampled, len(frames)-len(kept))
	return kept
}
