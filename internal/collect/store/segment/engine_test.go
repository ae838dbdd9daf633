package segment

import (
	"errors"
	"sync"
	"testing"
)

// TestEngineIsReopened: a lost engine costs no answer, whoever notices first.
func TestEngineIsReopened(t *testing.T) {
	s := open(t, Config{})
	put(t, s, some(10))
	lost := s.engine()
	if err := lost.Close(); err != nil {
		t.Fatal(err)
	}
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			if n := count(t, s, "true"); n != 10 {
				t.Errorf("%d rows", n)
			}
		})
	}
	asking.Wait()
	if s.engine() == lost {
		t.Error("the engine was not replaced")
	}
	f := func(text string, want bool) {
		t.Helper()
		if got := engineIsLost(errors.New(text)); got != want {
			t.Errorf("engineIsLost(%q) = %v", text, got)
		}
	}
	f("FATAL Error: Failed: database has been invalidated because of a previous fatal error", true)
	f("INTERNAL Error: Attempted to access index 3", true)
	f("Binder Error: Referenced column \"x\" not found", false)
	if engineIsLost(nil) {
		t.Error("no error is no loss")
	}
}

// TestNearlyFullDisk: when the file system is fuller than FullAt the oldest hours go, as many as are needed, and never the newest.
func TestNearlyFullDisk(t *testing.T) {
	s := open(t, Config{})
	s.keep.Lock()
	defer s.keep.Unlock()
	for hour := range 4 {
		recs := some(200)
		for i := range recs {
			recs[i].StartNS, recs[i].EndNS = recs[i].StartNS+int64(hour)*3600e9, recs[i].EndNS+int64(hour)*3600e9
		}
		put(t, s, recs)
	}
	var size int64
	for _, f := range s.man.live {
		size += f.Bytes
	}
	s.cfg.FullAt = 0.85
	f := func(free, total uint64, want int) {
		t.Helper()
		s.diskSpace = func(string) (uint64, uint64, error) { return free, total, nil }
		if err := s.expire(); err != nil {
			t.Fatal(err)
		}
		s.unlinkDoomed(true)
		if n := count(t, s, "true"); n != want {
			t.Errorf("with %d of %d free: %d rows, want %d", free, total, n, want)
		}
	}
	total := uint64(100 * size)
	f(total*20/100, total, 800)
	f(total*15/100+1, total, 800)
	f(total*15/100-10, total, 600)             // a little too much is one hour
	f(total*15/100-uint64(size)/3, total, 200) // more than one hour of the three
	f(0, total, 200)                           // the newest stays
}
