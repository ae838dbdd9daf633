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
// again, and some of what was: each row is there once, and counted once. A server without replicas notes the identifier of a part before the part is there
// (docs/scale.md): killed between the two, it lacks the rows of one day of what was under way, and no others.
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
	underway := map[uint64]bool{}
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
		underway[confirmed.Load()+1] = true
		srv.Start(t)
		for seq := max(confirmed.Load(), 4) - 3; seq <= upTo; seq++ { // some for the second time
			if err := send(seq); err != nil {
				t.Fatal(err)
			}
			confirmed.Store(max(confirmed.Load(), seq))
		}
	}
	there := flowCounts(t, s)
	for seq := range uint64(batches) {
		var lacks [3]int // rows of each day
		for i := range per {
			switch n := there[(seq+1)*per+uint64(i)+1]; n {
			case 0:
				lacks[i%3]++
			case 1:
			default:
				t.Errorf("row %d of batch %d is there %d times", i, seq+1, n)
			}
		}
		whole := lacks == [3]int{per / 3, 0, 0} || lacks == [3]int{0, per / 3, 0} || lacks == [3]int{0, 0, per / 3}
		if lacks != [3]int{} && !(underway[seq+1] && whole) {
			t.Errorf("batch %d lacks %d rows of its days; under way when the server was killed: %v", seq+1, lacks, underway)
		}
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
