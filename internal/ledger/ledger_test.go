package ledger

import (
	"sync"
	"testing"

	"crosstap/internal/testkit"
)

func TestBookAddsUp(t *testing.T) {
	b := New("meter", Packets, "non_ip", "truncated")
	b.In(10)
	b.Out(6)
	b.Drop(1, 3)
	b.Hold(1)
	s := b.Read()
	if err := s.Balance(); err != nil {
		t.Error(err)
	}
	if s.Dropped[0] != (Count{"non_ip", 0}) || s.Dropped[1] != (Count{"truncated", 3}) {
		t.Errorf("got %v", s.Dropped)
	}
	b.Hold(-1)
	if err := b.Read().Balance(); err == nil || err.Error() != "ledger: meter: 10 packets in, but 9 out + dropped + held (held 0)" {
		t.Errorf("a missing packet: got %v", err)
	}
	b.Hold(-1)
	if b.Read().Balance() == nil {
		t.Error("held below zero must not balance")
	}
}

// TestRunning reads the book of a stage that runs: at each moment it adds up.
func TestRunning(t *testing.T) {
	b := New("meter", Frames, "non_ip")
	done, quit := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				return
			default:
			}
			b.In(64)
			b.Drop(0, 1)
			b.Out(63)
		}
	}()
	for range 10000 {
		if s := b.Read().Running(); s.Balance() != nil {
			t.Fatalf("%+v: %v", s, s.Balance())
		}
	}
	close(quit)
	<-done
	b.In(5)
	if s := b.Read().Running(); s.Held != 5 || b.Read().Balance() == nil {
		t.Errorf("%+v", s)
	}
}

func TestBookConcurrent(t *testing.T) {
	b := New("s", Frames, "full")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				b.In(2)
				b.Out(1)
				b.Drop(0, 1)
			}
		})
	}
	wg.Wait()
	if s := b.Read(); s.In != 16000 || s.Balance() != nil {
		t.Errorf("got %+v", s)
	}
	if n := testkit.Allocs(100, func() { b.In(1); b.Out(1) }); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}
