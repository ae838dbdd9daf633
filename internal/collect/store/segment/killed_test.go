package segment

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/testkit"
)

// What a store is killed in the middle of: each change of its folder is a step, and a process of its own ends with SIGKILL at one of them.

// Numbers of the stores here: hours of rows, rows of an hour.
const (
	killedHours    = 4
	killedHourRows = 240
)

// deed is something that a store does.
type deed struct {
	before state
	do     func(dir string) error
	// kept is how many of the hours the rows of are there afterwards, and rolled how many have at least their roll-ups.
	kept, rolled int
	at           int // a step at which it is killed
}

// state is what a store has been through.
type state int

const (
	filled state = iota
	sealed
	corrected
	correctedTwice
	halfDone // killed while it was corrected, and without its manifest
)

// made gives stores of the states, each made once.
func made(t *testing.T) func(state) string {
	dirs := map[state]string{}
	var make func(state) string
	make = func(st state) string {
		if dirs[st] != "" {
			return dirs[st]
		}
		dir := t.TempDir()
		switch st {
		case filled:
			fillHours(t, dir)
		case sealed:
			dir = copyTree(t, make(filled))
			sealHours(t, dir)
		case corrected:
			dir = copyTree(t, make(sealed))
			correctHours(t, dir, 5)
		case correctedTwice:
			dir = copyTree(t, make(corrected))
			correctHours(t, dir, 6)
		case halfDone:
			dir = copyTree(t, make(corrected))
			dieDoing(t, "correct again", dir, 40)
			if err := os.Remove(filepath.Join(dir, manifestName)); err != nil {
				t.Fatal(err)
			}
		}
		dirs[st] = dir
		return dir
	}
	return make
}

// still is a store that changes nothing by itself.
func still(dir string) Config {
	return Config{Dir: dir, MinFree: -1, FlushInterval: time.Hour, FlushRows: 100, MergeFiles: 1 << 30, SealRows: 1 << 30, SealGrace: 1e6 * time.Hour, Now: func() time.Time { return time.Unix(0, base) }}
}

// busy is one that does all there is to do, some hours after the first row.
func busy(dir string, hours int) Config {
	cfg := still(dir)
	cfg.MergeFiles, cfg.SealRows, cfg.SealGrace = 3, 200, time.Minute
	cfg.Now = func() time.Time { return time.Unix(0, base).Add(time.Duration(hours)*time.Hour + 30*time.Minute) }
	return cfg
}

// named is an inventory that knows machines by another name in each version, and some in another segment.
type named uint64

func (v named) Version() uint64 { return uint64(v) }

func (v named) Amend(r *flow.Record) bool {
	was := *r
	r.SrcVM = fmt.Sprint("vm-", v)
	if r.Src[15]%16 == 0 {
		r.Segment = flow.NewSegment(flow.KindVXLAN, uint32(v))
	}
	return *r != was
}

// seenTwice gives rows of one hour with consecutive numbers; two observers see each flow.
func seenTwice(hour, from, n int) []flow.Record {
	recs := make([]flow.Record, n)
	for i := range recs {
		k := from + i
		at := base + int64(hour)*3600e9 + int64(k/2*37%3500)*1e9
		recs[i] = flow.Record{StartNS: at, EndNS: at + 1e9, Point: uint64(hour*1_000_000 + k), FlowID: uint64(hour*1_000_000+k/2) + 1, ObserverID: uint64(k%2) + 1, Role: flow.RolePort,
			Src: flow.V4([]byte{10, 0, 0, byte(k / 2)}), Dst: flow.V4([]byte{10, 1, 0, 1}), SrcPort: uint16(k / 2), DstPort: 53, Proto: 17, Packets: 1, Octets: 100, Marks: flow.MarkCanonical}
	}
	return recs
}

// fillHours stores the rows of all hours in small files.
func fillHours(t *testing.T, dir string) {
	t.Helper()
	s := open(t, still(dir))
	for hour := range killedHours {
		for at := 0; at < killedHourRows; at += 40 {
			put(t, s, seenTwice(hour, at, 40))
		}
	}
	s.Close()
}

// sealHours has the hours sealed, rolled up and merged.
func sealHours(t *testing.T, dir string) {
	t.Helper()
	s := open(t, busy(dir, 9))
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Close()
}

// correctHours has sealed hours corrected by an inventory, so that they are sealed again.
func correctHours(t *testing.T, dir string, by named) {
	t.Helper()
	cfg := busy(dir, 9)
	cfg.Inventory = by
	s := open(t, cfg)
	if err := s.Tidy(); err != nil {
		t.Fatal(err)
	}
	s.Close()
}

// work opens a store and does something with it.
func work(cfg Config, do func(*Store) error) error {
	s, err := Open(cfg)
	if err != nil {
		return err
	}
	if err := do(s); err != nil {
		return err
	}
	return s.Close()
}

var deeds = map[string]deed{
	"merge": {filled, func(dir string) error { return work(busy(dir, 0), (*Store).Tidy) }, killedHours, killedHours, 30},
	"seal": {filled, func(dir string) error {
		return work(busy(dir, 9), func(s *Store) error { return s.Settle(bg) })
	}, killedHours, killedHours, 55},
	"seal and merge days": {filled, func(dir string) error {
		return work(busy(dir, 40), func(s *Store) error { return s.Settle(bg) })
	}, killedHours, killedHours, 77},
	"correct": {sealed, func(dir string) error {
		cfg := busy(dir, 9)
		cfg.Inventory = named(5)
		return work(cfg, (*Store).Tidy)
	}, killedHours, killedHours, 90},
	"correct again": {correctedTwice, func(dir string) error {
		cfg := busy(dir, 9)
		cfg.Inventory = named(7)
		return work(cfg, (*Store).Tidy)
	}, killedHours, killedHours, 62},
	"expire": {sealed, func(dir string) error {
		cfg := busy(dir, killedHours)
		cfg.KeepFor = 2 * time.Hour
		return work(cfg, (*Store).Tidy)
	}, killedHours - 2, killedHours, 4},
	"expire what was corrected": {correctedTwice, func(dir string) error {
		cfg := busy(dir, killedHours)
		cfg.KeepFor = 3 * time.Hour
		return work(cfg, (*Store).Tidy)
	}, killedHours - 1, killedHours, 3},
	"expire roll-ups": {sealed, func(dir string) error {
		cfg := busy(dir, 48)
		cfg.KeepFor, cfg.KeepRollups = time.Hour, 2*time.Hour
		return work(cfg, (*Store).Tidy)
	}, 0, 0, 8},
	"backup": {corrected, func(dir string) error {
		_, err := Backup(dir, filepath.Join(dir, "backup"), false, nil)
		return err
	}, killedHours, killedHours, 33},
	"backup by links": {corrected, func(dir string) error {
		_, err := Backup(dir, filepath.Join(dir, "backup"), true, nil)
		return err
	}, killedHours, killedHours, 15},
	"rebuild": {halfDone, func(dir string) error { return work(still(dir), func(*Store) error { return nil }) }, killedHours, killedHours, 7},
}

// doDeed is the process that is killed.
func doDeed(name string) {
	at, _ := strconv.ParseInt(os.Getenv("SEGMENT_DIE_AT"), 10, 64)
	var n atomic.Int64
	step = func() {
		if n.Add(1) == at {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	if err := deeds[name].do(os.Getenv("SEGMENT_DIR")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	fmt.Println(n.Load())
	os.Exit(0)
}

// dieDoing has a process killed at a step of a deed, and says how many steps there were if it was not.
func dieDoing(t *testing.T, name, dir string, at int) (steps int, killed bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "SEGMENT_DEED="+name, "SEGMENT_DIR="+dir, fmt.Sprintf("SEGMENT_DIE_AT=%d", at))
	var said, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &complaint
	err := cmd.Run()
	if st, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && st.Signaled() && st.Signal() == syscall.SIGKILL {
		return 0, true
	}
	if err != nil {
		t.Fatalf("%s, step %d: %v: %s", name, at, err, complaint.String())
	}
	if _, err := fmt.Sscan(said.String(), &steps); err != nil {
		t.Fatalf("%s said %q", name, said.String())
	}
	return steps, false
}

// copyTree makes a second store of one that nobody writes: segment files never change, so that links do.
func copyTree(t testing.TB, from string) (to string) {
	t.Helper()
	to = t.TempDir()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil || name == "LOCK" {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, name), 0o750)
		}
		if strings.HasSuffix(name, ".parquet") {
			return os.Link(path, filepath.Join(to, name))
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), text, 0o640)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// checkAll says whether each row of a store is there once, in the rows and in the roll-ups, and nothing is told to be missing.
func checkAll(t *testing.T, what string, cfg Config, d deed, settled bool) {
	t.Helper()
	s := open(t, cfg)
	defer s.Close()
	if settled {
		if err := s.Settle(t.Context()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	v, err := s.View(t.Context(), 0, 1<<62)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	rows, distinct := 0, 0
	for _, text := range texts(t, v, "SELECT concat_ws(' ', point // 1000000, count(*), count(DISTINCT point), coalesce("+canonicalPackets+", 0)) FROM "+v.Table()+" GROUP BY point // 1000000") {
		var hour, n, different, packets int
		if _, err := fmt.Sscan(text, &hour, &n, &different, &packets); err != nil {
			t.Fatal(err)
		}
		rows, distinct = rows+n, distinct+different
		if hour >= killedHours-d.kept && n != killedHourRows {
			t.Errorf("%s: %d rows of hour %d, want %d", what, n, hour, killedHourRows)
		}
		if settled && n == killedHourRows && packets != killedHourRows/2 {
			t.Errorf("%s: %d canonical packets in hour %d, want %d", what, packets, hour, killedHourRows/2)
		}
	}
	if rows != distinct || rows < d.kept*killedHourRows || rows > killedHours*killedHourRows {
		t.Errorf("%s: %d rows, %d different", what, rows, distinct)
	}
	if n := int(rolledUp(t, s)); n > killedHours*killedHourRows || n < d.rolled*killedHourRows || n < rows {
		t.Errorf("%s: roll-ups tell of %d rows, want %d to %d", what, n, d.rolled*killedHourRows, killedHours*killedHourRows)
	}
	if aside := s.Stats().SetAside; aside != 0 || len(v.Gaps()) > 0 {
		t.Errorf("%s: %d files set aside, gaps %v", what, aside, v.Gaps())
	}
}

// checkAftermath checks a store that was left behind, without its manifest and once it went on; when SEGMENT_KILLS is set also as it is. dir is not changed.
func checkAftermath(t *testing.T, what, dir string, d deed) {
	t.Helper()
	f := func(how string, lost bool) {
		t.Helper()
		at := copyTree(t, dir)
		lose := func() {
			if err := os.Remove(filepath.Join(at, manifestName)); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
		if lost {
			lose()
		}
		checkAll(t, how, still(at), d, false)
		checkAll(t, how+", settled", busy(at, 9), d, true)
		if kills() > 0 {
			lose()
			checkAll(t, how+", settled, rebuilt", still(at), d, false)
		}
		os.RemoveAll(at)
	}
	f(what+", without its manifest", true)
	if kills() > 0 {
		f(what, false)
	}
}

// kills is how many processes are to be killed in all, 0 for few.
func kills() int {
	n, _ := strconv.Atoi(os.Getenv("SEGMENT_KILLS"))
	return n
}

// TestKilledAtAStep: whatever a store is doing when it is killed, it opens again, has lost nothing and counts nothing twice, also when its manifest is lost
// with it, and goes on from there. One step of each deed; as many as SEGMENT_KILLS says, evenly over all steps.
func TestKilledAtAStep(t *testing.T) {
	rounds, before := 0, made(t)
	for _, name := range slices.Sorted(maps.Keys(deeds)) {
		d := deeds[name]
		dir := before(d.before)
		at := []int{d.at}
		if n := kills() / len(deeds); n > 0 {
			to := copyTree(t, dir)
			steps, _ := dieDoing(t, name, to, 0)
			checkAftermath(t, name, to, d)
			at = at[:0]
			for i := range min(n+1, steps) {
				at = append(at, 1+steps*i/min(n+1, steps))
			}
			t.Logf("%s: %d steps", name, steps)
		}
		for _, n := range at {
			to := copyTree(t, dir)
			if _, killed := dieDoing(t, name, to, n); killed {
				rounds++
			}
			what := fmt.Sprintf("%s, killed at step %d", name, n)
			checkAftermath(t, what, to, d)
			if strings.HasPrefix(name, "backup") {
				checkBackup(t, what, to, d)
			}
			os.RemoveAll(to)
		}
	}
	if rounds < len(deeds)/2 {
		t.Errorf("only %d processes were killed; the test says little", rounds)
	}
	t.Logf("%d times killed", rounds)
}

// checkBackup: half a backup is refused, a whole one restored, and the next one is made.
func checkBackup(t *testing.T, what, dir string, d deed) {
	t.Helper()
	half, next := filepath.Join(dir, "backup"), filepath.Join(t.TempDir(), "next")
	if _, err := os.Stat(filepath.Join(half, backupName)); err != nil {
		if _, err := Restore(half, filepath.Join(t.TempDir(), "r"), nil); err == nil {
			t.Errorf("%s: half a backup was restored", what)
		}
	}
	if _, err := Backup(dir, next, false, nil); err != nil {
		t.Errorf("%s: the next backup: %v", what, err)
		return
	}
	checkRestored(t, what, next, d)
}

func checkRestored(t *testing.T, what, backup string, d deed) {
	t.Helper()
	at := filepath.Join(t.TempDir(), "r")
	if _, err := Restore(backup, at, nil); err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	checkAftermath(t, what+", restored", at, d)
}

// TestBackupWhileMerging: a backup that is taken at any moment of merging, sealing, rolling up, correcting and deleting holds each row once.
func TestBackupWhileMerging(t *testing.T) {
	dir, at := t.TempDir(), t.TempDir()
	fillHours(t, dir)
	every := 60
	if kills() > 0 {
		every = 7
	}
	var busyWith atomic.Bool
	var n int
	var made []string
	was := step
	t.Cleanup(func() { step = was })
	step = func() { // in the goroutine that works, which waits meanwhile
		if !busyWith.CompareAndSwap(false, true) {
			return
		}
		defer busyWith.Store(false)
		if n++; n%every != 0 {
			return
		}
		to := filepath.Join(at, fmt.Sprint(n))
		if _, err := Backup(dir, to, n/every%2 == 0, nil); err != nil {
			t.Errorf("backup at step %d: %v", n, err)
		}
		made = append(made, to)
	}
	cfg := busy(dir, 9)
	for _, v := range []named{0, 5, 6} {
		cfg.Inventory = v
		s := open(t, cfg)
		if err := s.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.unlinkDoomed(true)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	step = was
	d := deeds["seal"]
	for _, backup := range made {
		checkRestored(t, "backup at step "+filepath.Base(backup), backup, d)
	}
	checkAftermath(t, "the store itself", dir, d)
	if len(made) < 3 {
		t.Errorf("%d backups; the test says little", len(made))
	}
	t.Logf("%d steps, %d backups", n, len(made))
}

// TestDiskFullWhileMerging: the disk is full at one moment or another of merging, sealing, rolling up and correcting. Nothing is lost, no half-made
// file stays, and with room again the work is done.
func TestDiskFullWhileMerging(t *testing.T) {
	testkit.Root(t)
	small := smallDisk(t, "8m")
	made := filepath.Join(t.TempDir(), "made")
	if err := os.Mkdir(made, 0o750); err != nil {
		t.Fatal(err)
	}
	fillHours(t, made)
	d := deeds["seal"]
	few := 192 << 10
	if kills() > 0 {
		few = 32 << 10
	}
	failed := 0
	for room := 0; ; room += few {
		dir := filepath.Join(small, "store")
		if err := os.CopyFS(dir, os.DirFS(made)); err != nil {
			t.Fatal(err)
		}
		cfg := busy(dir, 9)
		cfg.Inventory, cfg.FullAt = named(5), 1
		s := open(t, cfg)
		s.keep.Lock() // the store's own tidying waits
		ballast := fillDisk(t, small)
		if err := os.Truncate(ballast, max(fileSize(t, ballast)-int64(room), 0)); err != nil {
			t.Fatal(err)
		}
		s.keep.Unlock()
		err := s.Settle(t.Context())
		what := fmt.Sprintf("%d bytes of room", room)
		if err != nil && !isDiskFull(err) {
			t.Errorf("%s: %v", what, err)
		}
		s.keep.Lock() // nor does it work now by itself
		half, _ := filepath.Glob(filepath.Join(dir, "*.tmp"))
		s.keep.Unlock()
		if len(half) > 0 {
			t.Errorf("%s: left %v", what, half)
		}
		if n, r := count(t, s, "true"), rolledUp(t, s); n != killedHours*killedHourRows || r != uint64(n) {
			t.Errorf("%s: %d rows, roll-ups tell of %d", what, n, r)
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		if err := s.Settle(t.Context()); err != nil {
			t.Errorf("%s: with room again: %v", what, err)
		}
		if st := s.Stats(); st.SealedFiles != st.Files {
			t.Errorf("%s: %d of %d files sealed", what, st.SealedFiles, st.Files)
		}
		s.Close()
		checkAll(t, what, still(dir), d, false)
		if err := os.Remove(filepath.Join(dir, manifestName)); err != nil {
			t.Fatal(err)
		}
		checkAll(t, what+", rebuilt", still(dir), d, false)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err == nil {
			break
		}
		failed++
	}
	if failed < 2 {
		t.Errorf("the disk was full %d times; the test says little", failed)
	}
	t.Logf("the disk was full at %d moments", failed)
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}
