package clickhouse

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"crosstap/internal/collect/store"
	"crosstap/internal/collect/store/clickhouse/chtest"
	"crosstap/internal/flow"
)

// TestServerKilled kills the server while rows come, of several days in each insert so that each is several parts. What was not confirmed is sent
// again, and some of what was: each row is there once, and counted once.
func TestServerKilled(t *testing.T) {
	srv := chtest.Start(t)
	s := open(t, srv, nil)
	const per, batches, rounds = 60, 60, 2
	batch := func(seq uint64) []flow.Record {
		recs := records(int(seq)*per, per)
		for i := range recs {
			day := time.Duration(i%3) * 24 * time.Hour
			recs[i].StartNS, recs[i].EndNS = recs[i].StartNS+int64(day), recs[i].EndNS+int64(day)
		}
		return recs
	}
	send := func(seq uint64) error {
		return s.AppendPlaced(t.Context(), batch(seq), store.Place{Stream: "FLOWS@7", Seq: seq})
	}
	rnd := rand.New(rand.NewPCG(7, 8))
	var confirmed atomic.Uint64
	for round := range uint64(rounds) {
		upTo := (round + 1) * batches / rounds
		begun, failed := make(chan bool), make(chan error)
		go func() {
			close(begun)
			for seq := confirmed.Load() + 1; seq <= upTo; seq++ {
				if err := send(seq); err != nil {
					failed <- err
					return
				}
				confirmed.Store(seq)
			}
			failed <- nil
		}()
		<-begun
		time.Sleep(time.Duration(rnd.IntN(60)) * time.Millisecond) // wherever that is
		srv.Kill()
		<-failed
		srv.Start(t)
		for seq := max(confirmed.Load(), 4) - 3; seq <= upTo; seq++ { // some for the second time
			if err := send(seq); err != nil {
				t.Fatal(err)
			}
			confirmed.Store(max(confirmed.Load(), seq))
		}
	}
	if rows, _ := count(t, s); rows != per*batches {
		t.Errorf("%d rows, want %d", rows, per*batches)
	}
	hours, err := s.readHours(t.Context(), 0, 1<<62)
	if err != nil {
		t.Fatal(err)
	}
	var n uint64
	for _, h := range hours {
		n += h.rows
	}
	if n != per*batches {
		t.Errorf("the hours count %d rows, want %d", n, per*batches)
	}
}
