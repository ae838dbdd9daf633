package segment

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
	"crosstap/internal/testkit"
)

// TestMain runs what TestKill and TestKilledAtAStep start as programs of their own.
func TestMain(m *testing.M) {
	if dir := os.Getenv("SEGMENT_WRITE_TO"); dir != "" {
		writeForEver(dir)
	}
	if name := os.Getenv("SEGMENT_DEED"); name != "" {
		doDeed(name)
	}
	os.Exit(m.Run())
}

// Of the writer that is killed.
const (
	killRows    = 300 // in a batch
	killPending = 5 * killRows
)

// writeForEver appends numbered records. It prints "durable N" after each flush; with SEGMENT_LAZY it never asks for one, and
// prints "taken N" after each call of Append. It prints "sealed N" once an hour is sealed.
func writeForEver(dir string) {
	from, _ := strconv.Atoi(os.Getenv("SEGMENT_FROM"))
	lazy := os.Getenv("SEGMENT_LAZY") != ""
	s, err := Open(Config{Dir: dir, FlushRows: killRows, MaxPending: killPending, AppendWait: time.Hour, MergeFiles: 3, SealRows: 5000, MinFree: -1,
		FlushInterval: 20 * time.Millisecond, SealGrace: 30 * time.Millisecond, Inventory: restless{}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	sealed := false
	for n := from; ; {
		recs := numbered(n, 100)
		if err := s.Append(bg, recs); err != nil {
			os.Exit(4)
		}
		n += len(recs)
		if !sealed && s.Stats().SealedFiles > 0 {
			sealed = true
			fmt.Println("sealed", n)
		}
		switch {
		case lazy:
			fmt.Println("taken", n)
		case n%500 == 0:
			if err := s.Flush(bg); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(5)
			}
			fmt.Println("durable", n)
		}
	}
}

// restless is an inventory in which all machines have another name all the time, and some another segment.
type restless struct{}

func (restless) Version() uint64 { return uint64(time.Now().UnixMilli()/40) + 1 }

func (v restless) Amend(r *flow.Record) bool {
	was := *r
	r.SrcVM = fmt.Sprint("vm-", v.Version())
	if r.Src[15]%8 == 0 {
		r.Segment = flow.NewSegment(flow.KindVXLAN, uint32(v.Version()%5))
	}
	return *r != was
}

// numbered gives records with consecutive numbers; one in 50 is of another hour.
func numbered(from, n int) []flow.Record {
	recs := make([]flow.Record, n)
	for i := range recs {
		k := from + i
		recs[i] = flow.Record{StartNS: base, EndNS: base + int64(k%3600)*1e9 + int64(k%50/49)*3600e9, Point: uint64(k), FlowID: uint64(k) + 1,
			Src: flow.V4([]byte{10, 0, 0, byte(k)}), Packets: 1, Octets: 100, Marks: flow.MarkCanonical}
	}
	return recs
}

// TestKill: six times, or as often as SEGMENT_KILLS says, a writer is killed with SIGKILL while it flushes, merges, corrects rows, seals and rolls up. Every
// record that it said is durable is found, once, in the rows and in the roll-ups; of those it took and did not speak of, no more than may wait
// are missing. The store always opens, also when the manifest is lost; nothing is set aside.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	durable, next := 0, 0
	rnd := rand.New(rand.NewPCG(5, 6))
	rounds := 6
	if n, err := strconv.Atoi(os.Getenv("SEGMENT_KILLS")); err == nil {
		rounds = n
	}
	for round := range rounds {
		wait := "durable"
		switch round % 3 {
		case 0:
			wait = "sealed"
		case 2:
			wait = "taken"
		}
		acked, taken := runAndKill(t, dir, next, wait, time.Duration(50+rnd.IntN(150))*time.Millisecond)
		durable += max(acked-next, 0)
		if round%5 == 4 {
			os.Remove(filepath.Join(dir, manifestName))
		}
		s := open(t, Config{Dir: dir})
		rows, distinct := count(t, s, "true"), sum(t, s, "count(DISTINCT point)")
		there := func(to int) int { return count(t, s, fmt.Sprintf("point >= %d AND point < %d", next, to)) }
		if n := there(acked); n != acked-next {
			t.Errorf("round %d: %d of the %d rows that were durable are there", round, n, acked-next)
		}
		if n := there(taken); n < taken-next-killPending {
			t.Errorf("round %d: %d of the %d rows that were taken are there, %d may be missing", round, n, taken-next, killPending)
		}
		if uint64(rows) != distinct || rows < durable {
			t.Errorf("round %d: %d rows, %d different, at least %d durable", round, rows, distinct, durable)
		}
		if rolled := rolledUp(t, s); rolled != uint64(rows) {
			t.Errorf("round %d: roll-ups tell of %d rows of %d", round, rolled, rows)
		}
		if st := s.Stats(); st.SetAside != 0 {
			t.Errorf("round %d: %d files set aside", round, st.SetAside)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		durable = rows
		next += 1_000_000
	}
	if durable < 2000 {
		t.Errorf("only %d rows were written; the test says little", durable)
	}
	t.Logf("%d times killed: %d rows, all found once", rounds, durable)
}

// rolledUp is how many rows the roll-ups of the store add up.
func rolledUp(t testing.TB, s *Store) (n uint64) {
	t.Helper()
	v, err := s.View(t.Context(), base, base+10*3600e9)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	got := texts(t, v, "SELECT coalesce(sum(rows) + sum(other_rows), 0)::BIGINT FROM "+v.Rollup(time.Hour, base, base+10*3600e9))
	if _, err := fmt.Sscan(got[0], &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// runAndKill starts the writer and kills it some time after it has said a word; it returns behind which number all were durable, and behind which all
// were taken.
func runAndKill(t *testing.T, dir string, from int, word string, life time.Duration) (durable, taken int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SEGMENT_WRITE_TO="+dir, "SEGMENT_FROM="+strconv.Itoa(from))
	if word == "taken" {
		cmd.Env = append(cmd.Env, "SEGMENT_LAZY=1")
	}
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() }).Stop()
	in := bufio.NewReader(out)
	var kill *time.Timer
	durable, taken = from, from
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			break
		}
		what, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		if what == word && kill == nil {
			kill = time.AfterFunc(life, func() { _ = cmd.Process.Kill() })
		}
		n, err := strconv.Atoi(number)
		switch {
		case err != nil: // cut short
		case what == "durable":
			durable, taken = n, n
		case what == "taken":
			taken = n
		}
	}
	_, _ = io.Copy(io.Discard, in)
	_ = cmd.Wait()
	if kill == nil {
		t.Fatalf("the writer never said %q: %s", word, complaint.String())
	}
	return durable, taken
}

// TestDamagedFilesAreSetAside: at opening when a file is short, at a query when its inside is spoilt. The rest still
// answers, and the gap is noted.
func TestDamagedFilesAreSetAside(t *testing.T) {
	f := func(name string, spoil func(path string, size int64)) {
		t.Helper()
		dir := t.TempDir()
		s := open(t, Config{Dir: dir, MergeFiles: 100})
		for range 3 {
			if err := s.Append(t.Context(), some(500)); err != nil {
				t.Fatal(err)
			}
			if err := s.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		s.Close()
		files, _ := filepath.Glob(filepath.Join(escapeGlob(dir), "flows/v1/*/*/*.parquet"))
		st, _ := os.Stat(files[1])
		spoil(files[1], st.Size())
		s = open(t, Config{Dir: dir, MergeFiles: 100})
		var n int
		var gaps []store.Gap
		for try := range 3 {
			v, err := s.View(t.Context(), 0, 1<<62)
			if err != nil {
				t.Fatal(err)
			}
			rows, err := v.Query(t.Context(), "SELECT count(*), sum(hash(COLUMNS(*))) FROM (SELECT src, t_end, octets, segment, flow_id FROM "+v.Table()+")")
			if err == nil {
				rows.Close()
				n, gaps = countIn(t, v, "octets >= 0"), v.Gaps()
				v.Close()
				break
			}
			v.Close()
			if !errors.Is(err, store.ErrStale) || try == 2 {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if n != 1000 || s.Stats().SetAside != 1 || len(gaps) != 1 || gaps[0].Scope != "store" {
			t.Errorf("%s: %d rows, %d set aside, gaps %v; want 1000, 1 and 1", name, n, s.Stats().SetAside, gaps)
		}
		if kept, _ := filepath.Glob(filepath.Join(escapeGlob(dir), "aside/*")); len(kept) != 1 {
			t.Errorf("%s: aside holds %v", name, kept)
		}
		s.Close()
		s = open(t, Config{Dir: dir, MergeFiles: 100})
		if n := count(t, s, "true"); n != 1000 {
			t.Errorf("%s: %d rows after reopening", name, n)
		}
	}
	f("cut", func(path string, size int64) { os.Truncate(path, size/2) })
	f("empty", func(path string, _ int64) { os.Truncate(path, 0) })
	f("gone", func(path string, _ int64) {
		os.MkdirAll(filepath.Join(filepath.Dir(path), "../../../../aside"), 0o750)
		os.Rename(path, filepath.Join(filepath.Dir(path), "../../../../aside", filepath.Base(path)))
	})
	f("spoilt inside", func(path string, size int64) { scribble(path, 100, int(size)-4000) })
	f("spoilt footer", func(path string, size int64) { scribble(path, int(size)-200, int(size)-8) })
}

// scribble overwrites bytes of a file.
func scribble(path string, from, to int) {
	text, _ := os.ReadFile(path)
	for i := from; i < to; i++ {
		text[i] = byte(i * 7)
	}
	os.WriteFile(path, text, 0o600)
}

// TestDiskFull: on a file system of 8 MB the store sheds with a count and a gap, answers all the while, and goes on by
// itself when there is room again. The books add up.
func TestDiskFull(t *testing.T) {
	testkit.Root(t)
	dir := smallDisk(t, "8m")
	s := open(t, Config{Dir: dir, FlushRows: 2000, MaxPending: 6000, FlushInterval: 20 * time.Millisecond, AppendWait: 200 * time.Millisecond, MergeFiles: 1000})
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 5<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	n := 0
	until := func(what string, done func(store.Stats) bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !done(s.Stats()); n += 1000 {
			if time.Now().After(deadline) {
				t.Fatalf("%s does not come: %+v", what, s.Stats())
			}
			if err := s.Append(t.Context(), noisy(n, 1000)); err != nil {
				t.Fatal(err)
			}
		}
	}
	dropped := func(st store.Stats) uint64 { return st.Book.Dropped[dropDiskFull].N }
	until("shedding", func(st store.Stats) bool { return dropped(st) > 0 })
	full := s.Stats()
	if !strings.Contains(full.LastError, "no space left") {
		t.Errorf("last error %q", full.LastError)
	}
	if rows := count(t, s, "octets >= 0"); uint64(rows) != full.Rows {
		t.Errorf("%d rows found while the disk is full, %d stored", rows, full.Rows)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	until("storing again", func(st store.Stats) bool { return st.Rows > full.Rows+4000 && st.LastError == "" })
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	st := s.Stats()
	if err := st.Book.Balance(); err != nil {
		t.Error(err)
	}
	lost, shed := toldLost(t, s), lostIn(st)
	if rows := count(t, s, "true"); uint64(rows) != st.Book.Out || lost != shed || st.Book.Out+shed != uint64(n) {
		t.Errorf("%d rows, %d out, %d dropped, %d lost in gaps, %d sent", rows, st.Book.Out, shed, lost, n)
	}
	s.Close()
	s = open(t, Config{Dir: dir, MergeFiles: 1000})
	if rows := count(t, s, "true"); uint64(rows) != st.Book.Out || s.Stats().SetAside != 0 {
		t.Errorf("after reopening %d rows, want %d", rows, st.Book.Out)
	}
}

// TestDiskFullAgainAndAgain: on a file system of 16 MB that is full three times, for a minute each time when SEGMENT_FULL_FOR says 1m, the store loses what
// it says and nothing else: while it merges, seals and rolls up, for those who ask meanwhile, and when it is opened again with or without
// its manifest.
func TestDiskFullAgainAndAgain(t *testing.T) {
	testkit.Root(t)
	dir := smallDisk(t, "16m")
	long, err := time.ParseDuration(os.Getenv("SEGMENT_FULL_FOR"))
	if err != nil {
		long = 200 * time.Millisecond
	}
	cfg := Config{Dir: dir, FlushRows: 500, FlushInterval: 20 * time.Millisecond, AppendWait: 50 * time.Millisecond, MergeFiles: 3, SealRows: 4000, SealGrace: 10 * time.Millisecond, KeepBytes: 4 << 20,
		Now: func() time.Time { return time.Unix(0, base).Add(90 * time.Minute) }}
	s := open(t, cfg)
	sent := 0
	feed := func() {
		t.Helper()
		if err := s.Append(t.Context(), noisy(sent, 250)); err != nil {
			t.Fatal(err)
		}
		sent += 250
		time.Sleep(2 * time.Millisecond)
		if p := s.Stats().PendingRows; p > 5*500 {
			t.Fatalf("%d rows wait", p)
		}
	}
	until := func(what string, done func(store.Stats) bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !done(s.Stats()); feed() {
			if time.Now().After(deadline) {
				t.Fatalf("%s does not come: %+v", what, s.Stats())
			}
		}
	}
	until("storing", func(st store.Stats) bool { return st.Rows > 2000 })
	for range 3 {
		ballast := fillDisk(t, dir)
		before := lostIn(s.Stats())
		until("shedding", func(st store.Stats) bool { return lostIn(st) > before })
		for end := time.Now().Add(long); time.Now().Before(end); {
			feed()
			if n := count(t, s, "octets >= 0"); n == 0 {
				t.Fatal("nothing is found while the disk is full")
			}
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		stored := s.Stats().Book.Out
		until("storing again", func(st store.Stats) bool { return st.Book.Out > stored+3000 && st.LastError == "" })
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	st := s.Stats()
	if err := st.Book.Balance(); err != nil {
		t.Error(err)
	}
	if told := toldLost(t, s); told != lostIn(st) || st.Book.Out+told != uint64(sent) || st.SetAside != 0 {
		t.Errorf("%d sent, %d stored, %d dropped, %d told as missing, %d files set aside", sent, st.Book.Out, lostIn(st), told, st.SetAside)
	}
	rows := count(t, s, "true")
	for _, without := range []string{"", manifestName} {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if without != "" {
			if err := os.Remove(filepath.Join(dir, without)); err != nil {
				t.Fatal(err)
			}
		}
		later := cfg
		later.KeepBytes, later.MergeFiles, later.SealRows, later.SealGrace = 0, 1<<30, 1<<30, 1e6*time.Hour // all stays as it is
		s = open(t, later)
		if n := count(t, s, "true"); n != rows || s.Stats().SetAside != 0 {
			t.Errorf("%d rows when opened again, %d before; %d files set aside", n, rows, s.Stats().SetAside)
		}
		if n := sum(t, s, "count(DISTINCT point)"); n != uint64(rows) {
			t.Errorf("%d different rows of %d", n, rows)
		}
	}
}

// fillDisk takes all room that is left.
func fillDisk(t *testing.T, dir string) (ballast string) {
	t.Helper()
	ballast = filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	for {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			return ballast
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// lostIn is how many records the store has dropped.
func lostIn(st store.Stats) (n uint64) {
	for _, d := range st.Book.Dropped {
		n += d.N
	}
	return n
}

// toldLost is how many records the gaps say are missing.
func toldLost(t *testing.T, s *Store) (n uint64) {
	t.Helper()
	v, err := s.View(t.Context(), 0, 1<<62)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for _, g := range v.Gaps() {
		n += g.LostRecords
	}
	return n
}

// noisy gives records that do not compress.
func noisy(from, n int) []flow.Record {
	recs := numbered(from, n)
	rnd := rand.New(rand.NewPCG(uint64(from), 1))
	for i := range recs {
		recs[i].FlowID, recs[i].Octets, recs[i].L2Octets = rnd.Uint64(), rnd.Uint64(), rnd.Uint64()
	}
	return recs
}

// smallDisk mounts a file system of the given size in a mount namespace of the test's thread's own; the folder is
// reachable from the whole process.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := make(chan string)
	failed := make(chan error)
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its namespace
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			failed <- err
			return
		}
		at := t.TempDir()
		err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		if err == nil {
			err = unix.Mount("tmpfs", at, "tmpfs", 0, "size="+size)
		}
		if err != nil {
			failed <- err
			return
		}
		f, err := os.Open(at)
		if err != nil {
			failed <- err
			return
		}
		defer f.Close()
		dir <- fmt.Sprintf("/proc/self/fd/%d", f.Fd())
		<-done
	}()
	t.Cleanup(func() { close(done) })
	select {
	case err := <-failed:
		if errors.Is(err, syscall.EPERM) {
			testkit.Missing(t, "mounting is not allowed here: "+err.Error())
		}
		t.Fatal(err)
	case d := <-dir:
		return d
	}
	return ""
}
