// Package rpc is a session of calls over one connection: it pairs calls with their answers, however many wait, and ends all of them
// together. What messages look like is known to who uses it: OVSDB's JSON-RPC, libvirt's XDR, and platforms behind ssh.
package rpc

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// writeTimeout is how long the peer has to read what we send.
const writeTimeout = 10 * time.Second

// Session pairs calls with answers of type A. Its methods are safe for concurrent use.
type Session[A any] struct {
	way  io.WriteCloser
	done chan struct{} // closed when nothing is read any more

	write sync.Mutex // held while a message is written

	mu    sync.Mutex
	last  uint32
	wait  map[uint32]chan reply[A]
	err   error // why the session ended
	heard time.Time
}

type reply[A any] struct {
	answer A
	err    error
}

// New returns a session whose messages go to way, which it closes at its end. Run must be called once.
func New[A any](way io.WriteCloser) *Session[A] {
	return &Session[A]{way: way, done: make(chan struct{}), wait: map[uint32]chan reply[A]{}, heard: time.Now()}
}

// Run calls next, which reads and handles one message, until it fails. The session then ends with why of the error, unless it has ended
// already; Done is closed.
func (s *Session[A]) Run(next func() error, why func(error) error) {
	defer close(s.done)
	for {
		err := next()
		if err == nil {
			s.mu.Lock()
			s.heard = time.Now()
			s.mu.Unlock()
			continue
		}
		if s.Err() == nil {
			s.End(why(err))
		}
		return
	}
}

// Do sends a call with a number that no other call waits for, and returns the answer to it. An error of ctx is returned as it is.
func (s *Session[A]) Do(ctx context.Context, send func(id uint32) error) (answer A, err error) {
	if err := ctx.Err(); err != nil {
		return answer, err
	}
	id, c, err := s.begin()
	if err != nil {
		return answer, err
	}
	defer s.forget(id)
	if err := send(id); err != nil {
		return answer, err
	}
	select {
	case r := <-c:
		return r.answer, r.err
	case <-ctx.Done():
		return answer, ctx.Err()
	}
}

func (s *Session[A]) begin() (uint32, chan reply[A], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, nil, s.err
	}
	for s.last++; s.last == 0 || s.wait[s.last] != nil; s.last++ {
	}
	c := make(chan reply[A], 1)
	s.wait[s.last] = c
	return s.last, c, nil
}

func (s *Session[A]) forget(id uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.wait, id)
}

// Answer gives an answer to the call that waits for it. When none does, it is nobody's.
func (s *Session[A]) Answer(id uint32, answer A, err error) {
	s.mu.Lock()
	c := s.wait[id]
	delete(s.wait, id)
	s.mu.Unlock()
	if c != nil {
		c <- reply[A]{answer, err}
	}
}

// Write sends one message. One that does not go whole ends the session with why of the error.
func (s *Session[A]) Write(ctx context.Context, message []byte, why func(error) error) error {
	s.write.Lock()
	defer s.write.Unlock()
	if w, ok := s.way.(interface{ SetWriteDeadline(time.Time) error }); ok {
		deadline := time.Now().Add(writeTimeout)
		if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
			deadline = d
		}
		_ = w.SetWriteDeadline(deadline) // when it cannot, we wait
	}
	n, err := s.way.Write(message)
	if err == nil {
		return nil
	}
	err = why(err)
	if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		s.End(err)
	}
	return err
}

// Done is closed when the session has ended. Err then says why.
func (s *Session[A]) Done() <-chan struct{} { return s.done }

// Err returns why the session ended, nil while it lasts.
func (s *Session[A]) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Heard returns when the peer last said something.
func (s *Session[A]) Heard() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heard
}

// End ends the session for a reason; calls that wait fail with it. It does not wait for Run.
func (s *Session[A]) End(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	s.err = why
	_ = s.way.Close() // what it says is of no use any more
	for id, c := range s.wait {
		c <- reply[A]{err: why}
		delete(s.wait, id)
	}
}

// Close ends the session for a reason and waits for Run. It must not be called from within it.
func (s *Session[A]) Close(why error) error {
	s.End(why)
	<-s.done
	return nil
}
