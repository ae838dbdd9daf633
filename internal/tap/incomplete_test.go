package tap

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"crosstap/internal/tap/deliver"
)

// gone is a reader that has left.
type gone struct{}

func (gone) Write([]byte) (int, error) { return 0, syscall.EPIPE }

// TestReaderLeaves wants a lone capture into a pipe whose reader leaves to end with that alone: what was lost to it is in the book, and is no error of its own.
func TestReaderLeaves(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in.pcap")
	const record = "\x00\x00\x00\x00\x00\x00\x00\x00\x3c\x00\x00\x00\x3c\x00\x00\x00"
	in := "\xd4\xc3\xb2\xa1\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04\x00\x01\x00\x00\x00" + strings.Repeat(record+string(make([]byte, 60)), 2)
	if err := os.WriteFile(path, []byte(in), 0o600); err != nil {
		t.Fatal(err)
	}
	s := DefaultSpec()
	s.File, s.To, s.Stdout = path, []string{"pcapng:-"}, gone{}
	tap, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	err = tap.Run(t.Context())
	var broken *deliver.BrokenFile
	if !errors.Is(err, syscall.EPIPE) || !errors.As(err, &broken) {
		t.Errorf("Run: %v", err)
	}
	if err := tap.Incomplete(); err != nil {
		t.Errorf("Incomplete: %v", err)
	}
	if n := unwritten(tap.frames[0].Book().Read()); n != 2 {
		t.Errorf("%d frames are counted as lost, want 2", n)
	}
}
