package deliver

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
	"crosstap/internal/ledger"
	"crosstap/internal/testkit"
)

// sink is a File or a Rotating that runs.
type sink struct {
	in   chan frame.Batch
	done chan error
	book *ledger.Book
	sent int
}

func run(s interface {
	Run(context.Context, <-chan frame.Batch) error
	Book() *ledger.Book
},
) *sink {
	r := &sink{in: make(chan frame.Batch), done: make(chan error, 1), book: s.Book()}
	go func() { r.done <- s.Run(context.Background(), r.in) }()
	return r
}

// send gives frames until is is true.
func (s *sink) send(t *testing.T, all []frame.Frame, is func(ledger.Statement) bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(s.book.Read()); {
		if time.Now().After(end) {
			t.Fatalf("%+v", s.book.Read())
		}
		part := make([]frame.Frame, min(100, len(all)))
		for i := range part {
			part[i] = all[(s.sent+i)%len(all)]
		}
		select {
		case s.in <- frame.Batch{Frames: part}:
			s.sent += len(part)
			time.Sleep(100 * time.Microsecond)
		case err := <-s.done:
			t.Fatalf("the sink has ended: %v", err)
		}
	}
}

// end ends the sink; its book has to add up to what was sent.
func (s *sink) end(t *testing.T) ledger.Statement {
	t.Helper()
	close(s.in)
	if err := <-s.done; err != nil {
		t.Error(err)
	}
	st := s.book.Read()
	if err := st.Balance(); err != nil || st.Held != 0 || st.In != uint64(s.sent) {
		t.Errorf("%d sent, %+v: %v", s.sent, st, err)
	}
	return st
}

func dropped(s ledger.Statement, reason string) uint64 {
	for _, d := range s.Dropped {
		if d.Reason == reason {
			return d.N
		}
	}
	return 0
}

// readable has tshark read a capture without a word of complaint, and returns its frames as hex.
func readable(t *testing.T, path string) (all []string) {
	t.Helper()
	cmd := exec.Command(testkit.Tool(t, "tshark"), "-r", path, "-F", "pcap", "-w", "-")
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	said := strings.TrimSpace(strings.ReplaceAll(complaint.String(), "Running as user \"root\" and group \"root\". This could be dangerous.", ""))
	if err != nil || said != "" || len(out) < pcapHeaderLen {
		t.Fatalf("tshark -r %s: %v: %s", path, err, said)
	}
	for b := out[pcapHeaderLen:]; len(b) > 0; {
		n := pcapRecordLen + int(binary.LittleEndian.Uint32(b[8:]))
		all, b = append(all, hex.EncodeToString(b[pcapRecordLen:n])), b[n:]
	}
	return all
}

// TestFullDiskAndRoomAgain fills the disk beneath a capture, makes room, and reads with tshark exactly the frames that the book says are in the file.
func TestFullDiskAndRoomAgain(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"x.pcapng", "x.pcap", "x.pcapng.gz", "x.pcapng.zst", "x.pcap.gz", "x.pcap.zst"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := testkit.SmallDisk(t, "4m")
			filler := filepath.Join(dir, "filler")
			must(t, os.WriteFile(filler, make([]byte, 3<<20), 0o600))
			format := Pcapng
			if strings.Contains(name, ".pcap") && !strings.Contains(name, ".pcapng") {
				format = Pcap
			}
			path := filepath.Join(dir, name)
			f, err := NewFile(FileConfig{Format: format, Path: path, Again: true, Failed: func() { t.Error("failed") }})
			must(t, err)
			s, all := run(f), noise(5000, 400)
			s.send(t, all, func(x ledger.Statement) bool { return dropped(x, "disk_full") > 4000 })
			if x := f.Trouble(); !errors.Is(x.Err, unix.ENOSPC) || !x.Recovered.IsZero() {
				t.Errorf("%+v", x)
			}
			copied := filepath.Join(t.TempDir(), name)
			must(t, copyFile(path, copied))
			kept := s.book.Read().Out
			if n := readable(t, copied); uint64(len(n)) != kept || kept < 1000 {
				t.Errorf("a full disk: %d frames, the book has %d", len(n), kept)
			}
			must(t, os.Remove(filler))
			s.send(t, all, func(x ledger.Statement) bool { return x.Out > kept && !f.Trouble().Recovered.IsZero() })
			st := s.end(t)
			if x := f.Trouble(); x.Err == nil || x.Recovered.IsZero() {
				t.Errorf("%+v", x)
			}
			got := readable(t, path)
			known := map[string]bool{}
			for i := range all {
				known[hex.EncodeToString(all[i].Data)] = true
			}
			if uint64(len(got)) != st.Out || slices.ContainsFunc(got, func(x string) bool { return !known[x] }) {
				t.Errorf("%d frames, the book has %+v", len(got), st)
			}
		})
	}
}

// noise are frames that do not compress.
func noise(n, size int) []frame.Frame {
	all := numbered(n, size)
	x := uint64(88172645463325252)
	for i := range all {
		for j := range all[i].Data {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
			all[i].Data[j] = byte(x)
		}
	}
	return all
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o600)
}

// TestRotatingFullDisk does the same with files that rotate: each of them is whole, and none is empty.
func TestRotatingFullDisk(t *testing.T) {
	t.Parallel()
	for _, ending := range []string{"", ".gz", ".zst"} {
		dir := testkit.SmallDisk(t, "5m")
		filler := filepath.Join(dir, "filler")
		must(t, os.WriteFile(filler, make([]byte, 3<<20), 0o600))
		c, err := ParseFile("pcapng:" + filepath.Join(dir, "web.pcapng"+ending) + "?size=500KiB")
		must(t, err)
		c.Again = true
		r, err := NewRotating(c)
		must(t, err)
		s, all := run(r), noise(5000, 400)
		s.send(t, all, func(x ledger.Statement) bool { return dropped(x, "disk_full") > 4000 })
		kept := s.book.Read().Out
		must(t, os.Remove(filler))
		s.send(t, all, func(x ledger.Statement) bool { return x.Out > kept && !r.Trouble().Recovered.IsZero() })
		st := s.end(t)
		n := 0
		for _, name := range list(t, dir) {
			got := readable(t, filepath.Join(dir, name))
			if n += len(got); len(got) == 0 {
				t.Errorf("%s is empty", name)
			}
		}
		if x := r.Trouble(); uint64(n) != st.Out || !errors.Is(x.Err, unix.ENOSPC) || x.Recovered.IsZero() {
			t.Errorf("%s: %d frames, %+v, %+v", ending, n, st, x)
		}
	}
}

// TestFolderVanishes removes the folder of a capture, and makes it again: a new file begins there.
func TestFolderVanishes(t *testing.T) {
	t.Parallel()
	for _, options := range []string{"", "?frames=100000"} {
		dir := filepath.Join(t.TempDir(), "captures")
		must(t, os.Mkdir(dir, 0o700))
		c, err := ParseFile("pcapng:" + filepath.Join(dir, "web.pcapng") + options)
		must(t, err)
		c.Again = true
		var s *sink
		var trouble func() Trouble
		if c.Rotate.on() {
			r, err := NewRotating(c)
			must(t, err)
			s, trouble = run(r), r.Trouble
		} else {
			f, err := NewFile(c)
			must(t, err)
			s, trouble = run(f), f.Trouble
		}
		all := numbered(100, 80)
		s.send(t, all, func(x ledger.Statement) bool { return x.Out > 0 })
		must(t, os.RemoveAll(dir))
		s.send(t, all[:1], func(x ledger.Statement) bool { return dropped(x, "write_failed") > 10 })
		if x := trouble(); !errors.Is(x.Err, os.ErrNotExist) || !x.Recovered.IsZero() {
			t.Errorf("%+v", x)
		}
		must(t, os.Mkdir(dir, 0o700))
		before := s.book.Read().Out
		s.send(t, all, func(x ledger.Statement) bool { return x.Out > before && !trouble().Recovered.IsZero() })
		after := s.end(t).Out - before
		names := list(t, dir)
		if len(names) != 1 || trouble().Recovered.IsZero() {
			t.Fatalf("%v, %+v", names, trouble())
		}
		if got := readable(t, filepath.Join(dir, names[0])); uint64(len(got)) > after || len(got) == 0 {
			t.Errorf("%d frames in the new file, at most %d were written", len(got), after)
		}
	}
}

// TestMovedFile goes on in a new file when the old one was moved away, as tools that rotate logs do, and ends the old one. One that stands there is not touched.
func TestMovedFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, moved := filepath.Join(dir, "x.pcapng"), filepath.Join(dir, "moved.pcapng")
	f, err := NewFile(FileConfig{Path: path, Again: true})
	must(t, err)
	s, all := run(f), numbered(100, 80)
	s.send(t, all, func(x ledger.Statement) bool { return x.Out > 0 })
	must(t, os.Rename(path, moved))
	for fileSize(path) == 0 {
		n := s.book.Read().In
		s.send(t, all[:1], func(x ledger.Statement) bool { return x.In > n })
		time.Sleep(time.Millisecond)
	}
	must(t, os.Remove(path))
	must(t, os.WriteFile(path, []byte("another's"), 0o600))
	s.send(t, all[:1], func(x ledger.Statement) bool { return dropped(x, "write_failed") > 0 })
	st := s.end(t)
	old := readable(t, moved)
	if b, err := os.ReadFile(path); err != nil || string(b) != "another's" || len(old) == 0 || uint64(len(old)) >= st.Out {
		t.Errorf("%q, %v; %d frames in the old file, %+v", b, err, len(old), st)
	}
}

// failing is a file whose writes fail while broken is set, each after some bytes.
type failing struct {
	*os.File
	broken *error
}

func (f failing) Write(b []byte) (int, error) {
	if err := *f.broken; err != nil {
		n, _ := f.File.Write(b[:min(len(b), 777)])
		return n, &os.PathError{Op: "write", Path: f.Name(), Err: err}
	}
	return f.File.Write(b)
}

// TestErrorsOfTheDisk has writes fail after some bytes as a network file system's do, and then succeed again.
func TestErrorsOfTheDisk(t *testing.T) {
	for _, c := range []struct {
		err    error
		reason int
	}{{syscall.EIO, DropWrite}, {syscall.ESTALE, DropWrite}, {syscall.EDQUOT, DropSpace}, {syscall.EFBIG, DropWrite}} {
		for _, name := range []string{"x.pcapng", "x.pcap", "x.pcapng.zst"} {
			var broken error
			path := filepath.Join(t.TempDir(), name)
			format := Pcapng
			if name == "x.pcap" {
				format = Pcap
			}
			f, err := NewFile(FileConfig{Format: format, Path: path, Again: true, openFile: func(path string, flags int) (disk, error) {
				file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|flags, 0o600)
				return failing{file, &broken}, err
			}})
			must(t, err)
			must(t, f.Begin())
			var want []string
			take := func(i, n int, kept bool) {
				part := numbered(i+n, 300)[i:]
				f.Take(frame.Batch{Frames: part})
				f.flush(true)
				for k := range part {
					if kept {
						want = append(want, hex.EncodeToString(part[k].Data))
					}
				}
			}
			take(0, 50, true)
			broken = c.err
			f.Take(frame.Batch{Frames: numbered(51, 3000)[50:]}) // not all of it fits: the rest waits
			f.flush(true)
			want = append(want, hex.EncodeToString(numbered(51, 3000)[50].Data))
			take(51, 10, false)
			f.trial.next = time.Time{}
			f.tick(time.Now())
			f.Take(frame.Batch{Frames: numbered(70, 3000)[61:]}) // tried in vain
			broken, f.trial.next = nil, time.Time{}
			take(70, 30, true)
			must(t, f.End(nil))
			st, x := f.Book().Read(), f.Trouble()
			if st.Balance() != nil || st.Held != 0 || st.Out != 81 || st.Dropped[c.reason].N != 19 || !errors.Is(x.Err, c.err) || x.Recovered.IsZero() {
				t.Errorf("%s, %v: %+v, %+v", name, c.err, st, x)
			}
			if got := readable(t, path); !slices.Equal(got, want) {
				t.Errorf("%s, %v: %d frames, want %d", name, c.err, len(got), len(want))
			}
		}
	}
}

// TestMissingIsTold finds the number of frames that are lost in the first one after them.
func TestMissingIsTold(t *testing.T) {
	var broken error
	path := filepath.Join(t.TempDir(), "x.pcapng")
	f, err := NewFile(FileConfig{Path: path, Again: true, openFile: func(path string, flags int) (disk, error) {
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|flags, 0o600)
		return failing{file, &broken}, err
	}})
	must(t, err)
	must(t, f.Begin())
	f.Take(frame.Batch{Frames: numbered(10, 100)})
	f.flush(true)
	broken = syscall.EIO
	f.Take(frame.Batch{Frames: numbered(1, 100)})
	f.flush(true) // waits
	f.Take(frame.Batch{Frames: numbered(7, 900)})
	broken, f.trial.next = nil, time.Time{}
	f.Take(frame.Batch{Frames: numbered(3, 100)})
	must(t, f.End(nil))
	var got []uint64
	b, err := os.ReadFile(path)
	must(t, err)
	for le := binary.LittleEndian; len(b) > 0; b = b[le.Uint32(b[4:]):] {
		if le.Uint32(b) != blockEnhanced {
			continue
		}
		n := int(le.Uint32(b[20:]))
		missing := uint64(0)
		for o := b[blockFixed+n+-n&3 : le.Uint32(b[4:])-4]; len(o) >= 4 && le.Uint16(o) != 0; o = o[4+int(le.Uint16(o[2:])+3)&^3:] {
			if le.Uint16(o) == optDropCount {
				missing = le.Uint64(o[4:])
			}
		}
		got = append(got, missing)
	}
	if want := append(make([]uint64, 11), 7, 0, 0); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestPipeClosed has the reader of standard output go away: frames are lost, and the run goes on.
func TestPipeClosed(t *testing.T) {
	r, w := io.Pipe()
	f, err := NewFile(FileConfig{Path: "-", Stdout: w, Again: true})
	must(t, err)
	s := run(f)
	go func() {
		_, _ = io.CopyN(io.Discard, r, 1000)
		r.CloseWithError(syscall.EPIPE)
	}()
	s.send(t, numbered(100, 100), func(x ledger.Statement) bool { return dropped(x, "write_failed") > 1000 })
	s.end(t)
	if x := f.Trouble(); !errors.Is(x.Err, syscall.EPIPE) || !x.Recovered.IsZero() {
		t.Errorf("%+v", x)
	}
}

// TestUnopened runs a capture whose folder comes later.
func TestUnopened(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "later")
	path := filepath.Join(dir, "x.pcapng")
	f, err := NewFile(FileConfig{Path: path, Again: true, Unopened: true})
	must(t, err)
	s := run(f)
	s.send(t, numbered(1, 100), func(x ledger.Statement) bool { return dropped(x, "write_failed") > 10 })
	must(t, os.Mkdir(dir, 0o700))
	s.send(t, numbered(1, 100), func(x ledger.Statement) bool { return x.Out > 10 })
	if got := readable(t, path); uint64(len(got)) > s.end(t).Out || len(got) == 0 {
		t.Errorf("%d frames", len(got))
	}
}
