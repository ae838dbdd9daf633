package deliver

import (
	"context"
	"errors"
	"time"
)

// Pauses between attempts to reach a receiver that is away.
const (
	leastRetry = 500 * time.Millisecond
	mostRetry  = 15 * time.Second
	awayLimit  = time.Minute // after which frames of a file do not wait any longer
)

// write keeps a connection to the receiver and writes the queue to it until all is written or ctx ends.
func (s *Stream) write(ctx context.Context) {
	pause, told, since := leastRetry, false, time.Now()
	for ctx.Err() == nil {
		c, err := s.dial.dial(ctx)
		if err == nil {
			if err = c.welcome(ctx); err != nil {
				c.close()
			}
		}
		if err == nil {
			if told {
				s.log.Info("the receiver is back", "to", s.Where(), "peer", c.peer)
			}
			pause, told = leastRetry, true
			s.away.Store(false)
			s.faults.end()
			if err = s.serve(ctx, c); err == nil {
				return
			}
			since = time.Now()
		}
		if s.cfg.Patient && time.Since(since) > awayLimit {
			s.abandon()
			return
		}
		if ctx.Err() != nil || s.finished() {
			return
		}
		s.away.Store(true)
		s.faults.begin(err)
		s.log.Warn("the receiver is away: frames wait in a bounded queue", "to", s.Where(), "error", err, "again_in", pause.String())
		told = true
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, mostRetry)
	}
}

// finished reports whether nothing is left to write.
func (s *Stream) finished() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed && len(s.queue) == 0
}

// sentChunk is a chunk that is written and not yet known to have arrived.
type sentChunk struct {
	*chunk
	end uint64 // bytes of the connection written by its end
}

const ackInterval = 100 * time.Millisecond

// serve writes to one connection. It returns nil when all is written and acknowledged.
func (s *Stream) serve(ctx context.Context, c *connection) (err error) {
	var sent []sentChunk
	settle := func() {
		acked := c.acknowledged()
		for len(sent) > 0 && sent[0].end <= acked {
			s.book.Hold(-sent[0].frames)
			s.book.Out(sent[0].frames)
			s.recycle(sent[0].chunk)
			sent = sent[1:]
		}
	}
	defer func() {
		settle()
		for _, x := range sent {
			s.drop(StreamLost, x.frames)
			s.recycle(x.chunk)
		}
		c.close()
	}()
	stop := context.AfterFunc(ctx, c.interrupt)
	defer stop()
	described := 0
	if _, err := c.Write(newPcapng(&s.cfg.File).head(nil)); err != nil {
		return err
	}
	tick := time.NewTicker(ackInterval)
	defer tick.Stop()
	for {
		x, done := s.next()
		switch {
		case x != nil:
			for _, idb := range x.idbs[described:] {
				if _, err := c.Write(idb); err != nil {
					s.back(x)
					return err
				}
				described++
			}
			_, err := c.Write(x.b)
			sent = append(sent, sentChunk{x, c.written()})
			if err != nil {
				return err
			}
			settle()
			continue
		case done:
			settle()
			return s.end(ctx, c, described, &sent, settle)
		}
		select {
		case <-s.arrived:
		case <-tick.C:
			settle()
		case err := <-c.gone:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// end writes the statistics, ends the connection in order and waits for the last acknowledgement.
func (s *Stream) end(ctx context.Context, c *connection, described int, sent *[]sentChunk, settle func()) error {
	if described == len(s.idbs) {
		if _, err := c.Write(s.enc.foot(nil)); err != nil {
			return err
		}
	}
	c.finish()
	for len(*sent) > 0 {
		select {
		case <-time.After(ackInterval / 10):
		case <-ctx.Done():
			return ctx.Err()
		}
		settle()
		if c.broken() {
			return errors.New("connection broken while the last frames were on their way")
		}
	}
	return nil
}
