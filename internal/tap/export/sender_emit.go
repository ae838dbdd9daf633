package export

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// narrow makes messages shorter after one was too long for the path, and encodes anew what did not leave.
func (s *sender) narrow(ctx context.Context) {
	again := s.inflight
	for s.tooBig {
		s.tooBig = false
		n := s.path.narrower(s.conn, s.enc.MaxLen())
		s.enc.Restart(s.rewind)
		s.enc.SetMaxLen(n)
		s.count(func(st *Status) { st.TooBig++; st.MaxMessage = s.enc.MaxLen() })
		s.log.Warn("path is narrower than thought", "max_message_bytes", s.enc.MaxLen())
		s.inflight = nil
		for i, it := range again {
			s.put(ctx, it, time.Now())
			if s.tooBig {
				again = append(s.inflight, again[i+1:]...)
				break
			}
		}
	}
}

// emit returns the function that sends a finished message of n items.
func (s *sender) emit(ctx context.Context) emitter {
	return func(msg []byte, n int) error {
		if s.stream != nil {
			return s.hand(msg, n)
		}
		err := s.write(ctx, msg)
		if errors.Is(err, syscall.EMSGSIZE) && s.path.canNarrow(len(msg)) {
			if !s.tooBig {
				s.rewind = s.sequence(msg)
			}
			s.tooBig = true
			return err
		}
		if err != nil {
			s.dropItems(DropSend, s.inflight[:n])
		} else {
			for _, it := range s.inflight[:n] {
				s.book.Hold(-it.records())
				s.book.Out(it.records())
			}
		}
		s.inflight = s.inflight[:copy(s.inflight, s.inflight[n:])]
		if err != nil {
			s.failed(err)
			return err
		}
		s.failures = 0
		s.since++
		s.count(func(st *Status) {
			st.Messages++
			st.Bytes += uint64(len(msg))
			if s.well++; s.well > 1 { // the second one would have told that nobody took the first
				st.recover()
			}
		})
		return nil
	}
}

// hand gives a message to the connection, which keeps it until the collector has it.
func (s *sender) hand(msg []byte, n int) error {
	records := 0
	for _, it := range s.inflight[:n] {
		records += it.records()
	}
	reason, ok := s.stream.put(msg, records)
	if !ok {
		s.dropItems(reason, s.inflight[:n])
	}
	s.inflight = s.inflight[:copy(s.inflight, s.inflight[n:])]
	return nil
}

// write sends one datagram. "Connection refused" is what the collector's host said of an earlier one; then
// this one has not been sent yet and is sent again.
func (s *sender) write(ctx context.Context, msg []byte) error {
	if s.conn == nil {
		return net.ErrClosed
	}
	var err error
	for range 2 {
		if ctx.Err() == nil {
			_ = s.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		}
		_, err = s.conn.Write(msg)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return err
		}
		s.untold = true
		s.count(func(st *Status) { st.Refused++ })
		s.note(err)
	}
	return err
}

// failed takes note of a message that the system did not take, and gives the socket up after many.
func (s *sender) failed(err error) {
	s.untold = true
	s.failures++
	s.count(func(st *Status) { st.Failed++ })
	s.note(err)
	if s.failures >= maxFailures && !errors.Is(err, syscall.ECONNREFUSED) {
		s.close()
	}
}

// note keeps the last error for the status; the log hears of the first in a row only.
func (s *sender) note(err error) {
	s.mu.Lock()
	fresh := s.st.LastError != err.Error() || time.Since(s.st.LastErrAt) > time.Minute
	s.st.LastError, s.st.LastErrAt, s.st.Recovered = err.Error(), time.Now(), time.Time{}
	s.well = 0
	s.mu.Unlock()
	if fresh && !errors.Is(err, os.ErrClosed) {
		s.log.Warn("cannot send flows", "error", err)
	}
}

func (s *sender) count(f func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.st)
}
