package segment

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"crosstap/internal/flow"
)

// learning is an inventory that learns: from its version on it knows the machine of each even source address, and the segment of
// those that lack one.
type learning struct {
	version atomic.Uint64
	asked   atomic.Int64
}

func (l *learning) Version() uint64 { return l.version.Load() }

func (l *learning) Amend(r *flow.Record) bool {
	l.asked.Add(1)
	was := *r
	if v := l.version.Load(); r.Src[15]%2 == 0 && v > 1 {
		r.SrcVM, r.SrcVMID = fmt.Sprintf("vm%d-%d", r.Src[15], v), fmt.Sprintf("id-%d", r.Src[15])
	}
	if r.Segment == 0 {
		r.Segment = flow.NewSegment(flow.KindVXLAN, 7)
	}
	return *r != was
}

// TestLateInventory: what becomes known of machines before their hour is sealed is in its rows and roll-up, and what becomes known
// after it too; rows that go to another segment go to their place, and nothing is lost or doubled. Hours that agree are not looked at again.
func TestLateInventory(t *testing.T) {
	var inv learning
	inv.version.Store(1)
	var later atomic.Int64
	dir := t.TempDir()
	cfg := Config{Dir: dir, FlushRows: 100, SealRows: 400, Inventory: &inv, Now: func() time.Time { return time.Unix(0, base+later.Load()) }}
	s := open(t, cfg)
	s.keep.Lock() // nothing is sealed by itself
	recs := some(1000)
	for i := range recs {
		recs[i].Src = flow.V4([]byte{10, 0, 0, byte(i % 4)})
		if i%10 == 3 {
			recs[i].Segment = 0
		}
	}
	put(t, s, recs)
	before := sum(t, s, "sum(octets)")
	tidy := func() {
		t.Helper()
		s.swept = time.Time{}
		s.keep.Unlock()
		if err := s.Tidy(); err != nil {
			t.Fatal(err)
		}
		s.keep.Lock()
	}
	f := func(what string, version int) {
		t.Helper()
		if n := count(t, s, "true"); n != 1000 || sum(t, s, "sum(octets)") != before || sum(t, s, "count(DISTINCT flow_id)") != 1000 {
			t.Errorf("%s: %d rows, want 1000, none of them changed otherwise", what, n)
		}
		if n := count(t, s, "segment = 0"); n != 0 {
			t.Errorf("%s: %d rows without a segment", what, n)
		}
		name := fmt.Sprintf("src_vm LIKE 'vm_-%d'", version)
		if n := count(t, s, name); n != 500 {
			t.Errorf("%s: %d rows with the name of now, want 500", what, n)
		}
		v, err := s.View(t.Context(), base, base+2*3600e9)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		roll := v.Rollup(time.Hour, base, base+2*3600e9)
		if got := texts(t, v, "SELECT concat(sum(rows), ' ', sum(rows) FILTER ("+name+" AND src_vm_id <> ''), ' ', sum(octets)) FROM "+roll); got[0] != fmt.Sprintf("1000 500 %d", before) {
			t.Errorf("%s: roll-up %s, want 1000 500 %d", what, got[0], before)
		}
		if len(s.man.rolls) != 1 {
			t.Errorf("%s: %d roll-ups are stored, want 1", what, len(s.man.rolls))
		}
	}
	inv.version.Store(2)
	later.Store(int64(3 * time.Hour))
	for range 2 {
		tidy()
	}
	f("before sealing", 2)
	inv.version.Store(3)
	tidy()
	f("after sealing", 3)
	asked := inv.asked.Load()
	tidy()
	if n := inv.asked.Load(); n != asked {
		t.Errorf("%d rows that agree were looked at", n-asked)
	}
	s.keep.Unlock()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, cfg)
	s.keep.Lock()
	defer func() { s.keep.Unlock() }()
	tidy()
	if n := inv.asked.Load(); n != asked {
		t.Errorf("%d rows that agree were looked at after a restart", n-asked)
	}
	inv.version.Store(4)
	later.Store(int64(30 * time.Hour)) // too long ago
	tidy()
	f("a day later", 3)
}

// TestSlowDisk: when the disk does not keep up, records are shed after the wait, with a count and a gap; what was taken is stored.
func TestSlowDisk(t *testing.T) {
	s := open(t, Config{FlushRows: 100, MaxPending: 200, AppendWait: time.Millisecond, MinFree: 1})
	s.mu.Lock()
	s.diskSpace = func(string) (uint64, uint64, error) {
		time.Sleep(20 * time.Millisecond) // before each file
		return 1 << 40, 1 << 41, nil
	}
	s.mu.Unlock()
	n := 0
	shed := func() uint64 { return s.Stats().Book.Dropped[dropSlowDisk].N }
	for deadline := time.Now().Add(time.Minute); shed() < 500 && time.Now().Before(deadline); n += 100 {
		if err := s.Append(t.Context(), numbered(n, 100)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	st := s.Stats()
	if err := st.Book.Balance(); err != nil {
		t.Error(err)
	}
	v, err := s.View(t.Context(), 0, 1<<62)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	var lost uint64
	for _, g := range v.Gaps() {
		lost += g.LostRecords
	}
	if rows := countIn(t, v, "true"); shed() < 500 || uint64(rows) != st.Book.Out || uint64(rows)+shed() != uint64(n) || lost != shed() {
		t.Errorf("%d sent: %d found, %d stored, %d shed, %d in gaps", n, rows, st.Book.Out, shed(), lost)
	}
}
