package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"crosstap/internal/collect/store"
	"crosstap/internal/collect/store/clickhouse"
	"crosstap/internal/collect/store/clickhouse/chtest"
	"crosstap/internal/flow"
)

// dying stands between a writer and its store, and has the writer die at chosen messages: between the insert and the confirmation.
type dying struct {
	Target
	die func() // nil for a writer that lives

	mu    sync.Mutex
	after int // messages
	given map[uint64]int
}

func (d *dying) AppendPlaced(ctx context.Context, recs []flow.Record, p store.Place) error {
	d.mu.Lock()
	d.given[p.Seq]++
	d.mu.Unlock()
	if err := d.Target.AppendPlaced(ctx, recs, p); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.after--; d.after <= 0 && d.die != nil {
		d.die()
		return context.Canceled // the records are stored, and the bus does not know
	}
	return nil
}

// TestRedelivered: writers die between the insert into ClickHouse and its confirmation; the bus gives the messages again, and ClickHouse has each
// record once. So it is when a collector sends a message twice because it did not hear that the bus has it.
func TestRedelivered(t *testing.T) {
	srv := chtest.Start(t)
	s := serveBus(t, 1<<30)
	line := LineConfig{Servers: []string{s.URL()}, MaxBytes: 1 << 30}
	db, err := clickhouse.Open(t.Context(), clickhouse.Config{Addrs: []string{srv.Addr}, RollAfter: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	f, err := NewFeed(FeedConfig{Line: line, Batch: 100, Linger: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	const n = 3000
	for i := 0; i < n; i += 100 {
		if err := errors.Join(f.Append(t.Context(), numbered(i, 100)), f.Flush(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	given := map[uint64]int{}
	rows := func() (n, octets uint64) {
		t.Helper()
		a, err := db.SQL(t.Context(), store.SQLQuery{Text: "SELECT count(*) AS n, coalesce(sum(octets), 0)::BIGINT AS o FROM flows", FromNS: 0, ToNS: 1 << 62})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(fmt.Sprint(a.Rows[0]...), &n, &octets); err != nil {
			t.Fatal(err)
		}
		return n, octets
	}
	run := func(after int, until func() bool) {
		t.Helper()
		ctx, die := context.WithCancel(t.Context())
		defer die()
		d := &dying{Target: db, after: after, given: given}
		if after > 0 {
			d.die = die
		}
		w, err := NewWriter(WriterConfig{Line: line, Store: d, Workers: 1, ackWait: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		for end := time.Now().Add(2 * time.Minute); !until() && ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("no end: %+v", w.Status())
			}
		}
		die()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	for _, after := range []int{1, 5, 2} {
		run(after, func() bool { return false })
	}
	run(0, func() bool { got, _ := rows(); return got >= n })
	again := 0
	for _, times := range given {
		again += times - 1
	}
	if again < 3 {
		t.Errorf("%d messages were given again, want one for each writer that died", again)
	}
	if got, octets := rows(); got != n || octets != n*(n-1)/2 {
		t.Errorf("%d rows with %d octets, want %d with %d", got, octets, n, n*(n-1)/2)
	}
	// long after: the bus has forgotten the identifiers, the store has not
	for seq := range uint64(3) {
		if err := db.AppendPlaced(t.Context(), numbered(0, 100), store.Place{Stream: "elsewhere", Seq: seq + 1, ID: "sent-twice"}); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := rows(); got != n+100 {
		t.Errorf("%d rows after a message that was sent three times, want %d", got, n+100)
	}
	// what came again may be counted again, so that its hours are rolled up again
	srv.Exec(t, fmt.Sprintf("SELECT throwIf(sum(rows) < %d) FROM crosstap.hours FORMAT Null", n+100))
}
