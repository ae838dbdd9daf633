package bus

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"crosstap/internal/collect/store"
)

// Letters go to the stream, and are taken out of the books when it has them.

// post hands letters to those who deliver them, until ctx ends and nothing is left.
func (f *Feed) post(ctx context.Context) {
	defer close(f.letters)
	tick := time.NewTicker(f.cfg.Linger)
	defer tick.Stop()
	for {
		for {
			f.mu.Lock()
			var l *letter
			if len(f.queue) > 0 {
				l, f.queue = f.queue[0], f.queue[1:]
			}
			f.mu.Unlock()
			if l == nil {
				break
			}
			f.letters <- l
		}
		select {
		case <-f.wake:
			continue
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		f.mu.Lock()
		f.sealLocked()
		f.shed.Note(func(g store.Gap) bool { return f.noteLocked(g) == nil })
		f.mu.Unlock()
	}
}

// deliver sends a letter until the stream has it, or ctx ends.
func (f *Feed) deliver(ctx context.Context, l *letter) {
	msg := f.message(l)
	wait := retryFirst
	for {
		err := f.attempt(ctx, msg)
		if err == nil {
			f.confirm(l)
			return
		}
		if ctx.Err() != nil {
			f.abandon(l)
			return
		}
		f.note(err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		wait = min(2*wait, retryMost)
	}
}

func (f *Feed) message(l *letter) *nats.Msg {
	msg := nats.NewMsg(f.cfg.Line.subject() + "." + l.kind)
	msg.Data = l.data
	msg.Header.Set(nats.MsgIdHdr, l.id)
	msg.Header.Set("Crosstap-Records", strconv.Itoa(l.n))
	return msg
}

func (f *Feed) attempt(ctx context.Context, msg *nats.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, attemptFor)
	defer cancel()
	f.mu.Lock()
	made := f.made
	f.mu.Unlock()
	if !made {
		if _, err := f.cfg.Line.stream(ctx, f.js); err != nil {
			return err
		}
		f.mu.Lock()
		f.made = true
		f.mu.Unlock()
	}
	_, err := f.js.PublishMsg(ctx, msg, jetstream.WithRetryAttempts(0), jetstream.WithExpectStream(f.cfg.Line.Stream))
	if errors.Is(err, jetstream.ErrNoStreamResponse) {
		f.mu.Lock()
		f.made = false // somebody deleted it
		f.mu.Unlock()
	}
	return err
}

// confirm takes a letter out of the books: writers will get it.
func (f *Feed) confirm(l *letter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lastErr != nil {
		f.cfg.Log.Info("the bus is reached again", "bus", f.cfg.Line.String())
	}
	f.waiting, f.held, f.lastErr, f.dropped = f.waiting-l.raw, f.held-l.n, nil, false
	f.book.Hold(-l.n)
	f.book.Out(l.n)
	f.room.FreeLocked()
}

// abandon counts the records of a letter that nobody confirmed before the end.
func (f *Feed) abandon(l *letter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting, f.held = f.waiting-l.raw, f.held-l.n
	f.book.Hold(-l.n)
	f.book.Drop(feedClosed, l.n)
	f.room.FreeLocked()
}
