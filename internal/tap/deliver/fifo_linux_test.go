package deliver

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
	"crosstap/internal/ledger"
)

func namedPipe(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	must(t, unix.Mkfifo(path, 0o600))
	return path
}

// TestPipeWithoutReaderEnds ends a capture into a named pipe that nobody has opened: what came is lost and counted, and nothing waits for ever.
func TestPipeWithoutReaderEnds(t *testing.T) {
	t.Parallel()
	stopped := make(chan struct{})
	f, err := NewFile(FileConfig{Path: namedPipe(t), Stopped: stopped})
	must(t, err)
	s := run(f)
	time.AfterFunc(300*time.Millisecond, func() { close(stopped) })
	s.in <- frame.Batch{Frames: some(7)} // taken when the wait is over
	close(s.in)
	if err := <-s.done; !errors.Is(err, errNoReader) {
		t.Error(err)
	}
	if b := s.book.Read(); b.Balance() != nil || b.In != 7 || dropped(b, "write_failed") != 7 || b.Held != 0 {
		t.Errorf("%+v", b)
	}
}

// TestPipeWaitsForReader has a lone capture wait for who reads from its named pipe, and lose nothing by that.
func TestPipeWaitsForReader(t *testing.T) {
	t.Parallel()
	path := namedPipe(t)
	f, err := NewFile(FileConfig{Path: path})
	must(t, err)
	s := run(f)
	time.Sleep(4 * lookForReader)
	got := make(chan []byte, 1)
	go func() {
		r, err := os.Open(path)
		if err != nil {
			got <- nil
			return
		}
		b, _ := io.ReadAll(r)
		got <- b
	}()
	s.in <- frame.Batch{Frames: some(5)}
	s.sent = 5
	if b := s.end(t); b.Out != 5 {
		t.Errorf("%+v", b)
	}
	if b := <-got; bytes.Count(b, []byte{blockEnhanced, 0, 0, 0}) < 5 {
		t.Errorf("%d bytes were read", len(b))
	}
}

// TestPipeOfSeveral has a named pipe without a reader lose its frames alone, and take them from when somebody reads.
func TestPipeOfSeveral(t *testing.T) {
	t.Parallel()
	path := namedPipe(t)
	f, err := NewFile(FileConfig{Path: path, Again: true, Failed: func() { t.Error("failed") }})
	must(t, err)
	s := run(f)
	s.send(t, some(10), func(b ledger.Statement) bool { return dropped(b, "write_failed") > 100 })
	if f.Trouble().Err == nil {
		t.Error("nobody is told")
	}
	r, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	must(t, err)
	over := make(chan struct{})
	defer close(over)
	go func() { // until nobody writes any more: before somebody does, it looks as if nobody did
		defer r.Close()
		for {
			_, _ = io.Copy(io.Discard, r)
			select {
			case <-over:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	s.send(t, some(10), func(b ledger.Statement) bool { return b.Out > 100 })
	if tr := f.Trouble(); tr.Recovered.IsZero() {
		t.Errorf("%+v", tr)
	}
	s.end(t)
}

// some makes frames of Ethernet.
func some(n int) (all []frame.Frame) {
	for i := range n {
		data := make([]byte, 60)
		data[12], data[13], data[59] = 0x08, 0x00, byte(i)
		all = append(all, frame.Frame{Data: data, OrigLen: len(data), Link: frame.LinkEthernet})
	}
	return all
}
