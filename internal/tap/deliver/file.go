package deliver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"crosstap/internal/frame"
	"crosstap/internal/ledger"
)

// Format is a format of capture files.
type Format uint8

// The formats.
const (
	Pcapng Format = iota
	Pcap
)

// String returns the format's name.
func (f Format) String() string {
	if f == Pcap {
		return "pcap"
	}
	return "pcapng"
}

// FileConfig says where and how to write a capture.
type FileConfig struct {
	Format Format
	Path   string    // "-" for Stdout; .gz and .zst at its end compress
	Stdout io.Writer // for the path "-"
	Rotate Rotation  // for a Rotating

	// What the file says of itself; a pcap file cannot.
	Program   string // that writes it, with its version
	Hardware  string
	OS        string
	Tap       string // name of the tap
	Filter    string // the expression that frames matched, "" for none
	SnapLen   int    // most bytes of a frame; 0 for MaxFrame
	Interface func(point uint32) string
	// Section, Describe and Beside return what the pcapng capture that is read says of itself, of the interface of a point, and beside its frames from
	// the nth block on, each before frames that it is about come; nil for other sources. The section header is written as soon as it is known.
	Section  func() (said []frame.Option, known bool)
	Describe func(point uint32) []frame.Option
	Beside   func(n int) []frame.Block
	// Masked says that frames were masked: names and addresses of hosts and secrets, which would tell what they were, are not written.
	Masked bool
	// Quiet returns the link types of the points, from 0 on, that are to be described also without a frame; nil for none.
	Quiet func() []frame.LinkType
	// Unit returns the unit of all times when it is known; nil or 0 for nanoseconds. A pcap file of microseconds is not made one of
	// nanoseconds by passing through.
	Unit func() time.Duration
	// Counts returns what is known of an interface when the file ends; nil for nothing.
	Counts func(point uint32) Counts
	// Label returns the text of a frame's tag; nil when there are no tags.
	Label func(tag uint16) string

	Input string // path of the capture that is read, which must not be overwritten
	// Failed is called once, when writing has failed: nothing more is written, and the source may as well stop. Not with Again.
	Failed func()
	// Again says that others go on when this file cannot be written: what comes meanwhile is counted as lost, and writing is tried again from time to time.
	Again bool
	// Unopened says with Again that this holds from the beginning: a file that cannot be opened is no error of Run.
	Unopened bool
	// Keep says that a capture that is there under that name when this one begins is not overwritten but renamed.
	Keep bool
	// Stopped is closed when the reader of a named pipe is not waited for any longer; nil for ever. With Again none is waited for: frames are lost until it is there.
	Stopped <-chan struct{}
	Log     *slog.Logger // of Again; nil for none

	openFile func(path string, flags int) (disk, error) // nil for the system's
}

// Counts are figures of one interface since the start of the capture.
type Counts struct {
	Received uint64 // by the tap, and what the kernel dropped
	Matched  uint64 // of them, frames that the filter let through
	Lost     uint64 // dropped by the kernel
	Missed   uint64 // dropped by the interface
}

// MaxFrame is the most bytes of a frame in a capture file, and what its header says when nothing was cut; the limit
// of libpcap.
const MaxFrame = 262144

// Reasons under which a file drops frames.
const (
	DropWrite   = iota // the reader is gone, the file cannot be made, an error of the disk
	DropLink           // a pcap file has one link type
	DropTooLong        // more than MaxFrame bytes
	DropSpace          // no room on the disk, or less than the floor of a rotation
)

var fileReasons = []string{"write_failed", "other_link_type", "too_long", "disk_full"}

// File writes frames to a capture file or to standard output. A file is written in place, so that it can be read
// while it grows: nothing waits for longer than a second. It is synced to the disk at the end.
type File struct {
	cfg  FileConfig
	book *ledger.Book
	enc  encoder

	out     io.Writer // Stdout or file
	file    disk      // nil for Stdout, and while it is not there
	pack    *packer   // nil: as it is
	packed  int       // bytes given to it since it was flushed
	regular bool
	buf     []byte
	pending int       // frames in buf, or in the compressor and not yet known to be written
	safe    int64     // bytes of the file up to which it is whole
	frames  uint64    // that it has
	flushed time.Time // by Look

	err    error // why nothing can be written
	reason int   // under which frames are dropped therefore
	ended  bool
	trial  trial
	faults *faults
}

// encoder makes the bytes of a format.
type encoder interface {
	// lead appends what has to stand in front of frames that come, as far as it is known and not yet written.
	lead(b []byte) []byte
	frame(b []byte, f *frame.Frame, notes [][]string) ([]byte, error)
	foot(b []byte) []byte
	// takes reports whether n frames of a link type are records of that form as frame would write them, and counts them then.
	takes(form frame.Form, kind frame.LinkType, n int) bool
	// stored returns how many of the first frames stand in records one after the other as frame would write them, and those bytes.
	stored(records []byte, frames []frame.Frame) (n int, same []byte)
	// whole returns the number of frames and bytes of the complete blocks at the start of b.
	whole(b []byte) (frames, n int)
	// again begins anew, for another file.
	again()
	// skip has the next frame tell that n are missing in front of it.
	skip(n uint64)
}

// NewFile returns a sink that writes a capture. The file is opened by Run, as one that is there must not be emptied before all else
// is in order.
func NewFile(c FileConfig) (*File, error) {
	if c.Path == "" {
		return nil, fmt.Errorf("deliver: %s: no path: want %s:PATH, or %s:- for standard output", c.Format, c.Format, c.Format)
	}
	if c.Path == "-" && c.Stdout == nil {
		return nil, fmt.Errorf("deliver: %s:-: there is no standard output", c.Format)
	}
	if in, err := os.Stat(c.Input); err == nil {
		if out, err := os.Stat(c.Path); err == nil && os.SameFile(in, out) {
			return nil, fmt.Errorf("deliver: %s: %s is the capture that is read: choose another name", c.Format, c.Path)
		}
	}
	if c.SnapLen == 0 {
		c.SnapLen = MaxFrame
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.openFile == nil {
		c.openFile = openFile
	}
	f := &File{cfg: c, faults: &faults{}, book: ledger.New("deliver", ledger.Frames, fileReasons...)}
	if f.enc = newPcapng(&f.cfg); c.Format == Pcap {
		f.enc = &pcap{cfg: &f.cfg}
	}
	return f, nil
}

// Book returns the sink's account. What waits in the buffer is held.
func (f *File) Book() *ledger.Book { return f.book }

// Where returns the destination as it was given.
func (f *File) Where() string { return f.cfg.Format.String() + ":" + f.cfg.Path }

const (
	bufferBytes  = 256 << 10 // fits into the second-level cache
	flushFile    = time.Second
	flushStdout  = 50 * time.Millisecond
	maxBlockRoom = MaxFrame + 4096
)

// Run writes the frames of every batch from in, which it releases, until in is closed or ctx ends; then it ends the file.
// When writing fails, it goes on taking batches, which it drops and counts, so that the stages before it can end in
// order, and returns the error at the end; with Again, Trouble has it.
func (f *File) Run(ctx context.Context, in <-chan frame.Batch) error {
	if err := f.Begin(); err != nil {
		return err
	}
	tick := time.NewTicker(f.every())
	defer tick.Stop()
	for {
		select {
		case b, ok := <-in:
			if !ok {
				return f.End(nil)
			}
			f.Take(b)
		case now := <-tick.C:
			f.tick(now)
		case <-ctx.Done():
			return f.End(ctx.Err())
		}
	}
}

// Begin, Take and End are Run for one who has the batches where they are made, and more of them without a wait.
func (f *File) Begin() error {
	f.buf = make([]byte, 0, bufferBytes+maxBlockRoom)
	f.flushed = time.Now()
	err := f.openNew()
	if errors.Is(err, errNoReader) && !f.cfg.Again {
		err = f.awaitReader()
	}
	switch {
	case errors.Is(err, errNoReader), err != nil && f.cfg.Again && f.cfg.Unopened:
		f.fail(err)
		return nil
	case err != nil:
		return fmt.Errorf("deliver: %s: %w", f.cfg.Format, err)
	}
	f.buf = f.enc.lead(f.buf)
	return nil
}

// Take writes a batch, which it releases.
func (f *File) Take(b frame.Batch) {
	f.batch(b)
	b.Release()
}

// Look is called from time to time when nobody runs Run, so that what was taken does not wait.
func (f *File) Look(now time.Time) {
	if now.Sub(f.flushed) >= f.every() {
		f.flushed = now
		f.tick(now)
	}
}

// tick writes what waits, and looks whether the file is still there.
func (f *File) tick(now time.Time) {
	f.retry(now)
	f.flush(true)
	f.present()
}

// every is how long a frame may wait for others.
func (f *File) every() time.Duration {
	if f.regular {
		return flushFile
	}
	return flushStdout
}
