package clickhouse

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"crosstap/internal/collect/store"
	"crosstap/internal/collect/store/clickhouse/chtest"
)

// TestServerKilled kills the server while rows come, of several days in each insert so that each is several parts. What was not confirmed is sent
// again, and some of what was: each row is there once, and roll-ups add up all of them.
func TestServerKilled(t *testing.T) {
	srv := chtest.Start(t)
	s := open(t, srv, func(c *Config) { c.SettleWait = 100 * time.Millisecond })
	const per, batches, rounds = 60, 60, 2
	send := func(seq uint64) error {
		return s.AppendPlaced(t.Context(), overDays(records(int(seq)*per, per)), store.Place{Stream: "FLOWS@7", Seq: seq})
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
	there := flowCounts(t, s)
	for i := range uint64(per * batches) {
		if n := there[per+i+1]; n != 1 {
			t.Errorf("row %d of batch %d is there %d times", i%per, i/per+1, n)
		}
	}
	settled(t, s)
}

// flowCounts returns how many rows there are of each flow.
func flowCounts(t *testing.T, s *Store) map[uint64]int {
	t.Helper()
	v, err := s.View(t.Context(), 0, 1<<62)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	rs, err := v.Query(t.Context(), "SELECT flow_id, count(*)::UBIGINT FROM "+v.Table()+" GROUP BY flow_id")
	if err != nil {
		t.Fatal(err)
	}
	defer rs.Close()
	there := map[uint64]int{}
	for rs.Next() {
		var id, n uint64
		if err := rs.Scan(&id, &n); err != nil {
			t.Fatal(err)
		}
		there[id] = int(n)
	}
	if err := rs.Err(); err != nil {
		t.Fatal(err)
	}
	return there
}
