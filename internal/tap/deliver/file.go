package deliver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

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
	// Failed is called once, when writing has failed: nothing more is written, and the source may as well stop.
	Failed func()
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
	DropWrite   = iota // the disk is full, the reader is gone
	DropLink           // a pcap file has one link type
	DropTooLong        // more than MaxFrame bytes
)

var fileReasons = []string{"write_failed", "other_link_type", "too_long"}

// File writes frames to a capture file or to standard output. A file is written in place, so that it can be read
// while it grows: nothing waits for longer than a second. It is synced to the disk at the end.
type File struct {
	cfg  FileConfig
	book *ledger.Book
	enc  encoder

	out     io.Writer // compressor or file
	file    *os.File  // nil for Stdout
	stream  compressor
	regular bool
	buf     []byte
	pending int   // frames in buf
	written int64 // bytes of complete blocks that out has taken
	frames  uint64
	err     error
	flushed time.Time // by Look
}

// compressor is what gzip and zstd writers have in common.
type compressor interface {
	io.WriteCloser
	Flush() error
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
	f := &File{cfg: c, book: ledger.New("deliver", ledger.Frames, fileReasons...)}
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
// order, and returns the error at the end.
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
		case <-tick.C:
			f.flush(true)
		case <-ctx.Done():
			return f.End(ctx.Err())
		}
	}
}

// Begin, Take and End are Run for one who has the batches where they are made, and more of them without a wait.
func (f *File) Begin() error {
	if err := f.open(); err != nil {
		return fmt.Errorf("deliver: %s: %w", f.cfg.Format, err)
	}
	f.buf = f.enc.lead(make([]byte, 0, bufferBytes+maxBlockRoom))
	f.flushed = time.Now()
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
		f.flush(true)
	}
}

// every is how long a frame may wait for others.
func (f *File) every() time.Duration {
	if f.regular {
		return flushFile
	}
	return flushStdout
}

func (f *File) batch(b frame.Batch) {
	f.book.In(len(b.Frames))
	f.book.Hold(len(b.Frames))
	f.append(f.enc.lead(f.buf))
	if n := len(b.Frames); n > 0 && n == b.Intact && f.err == nil && f.enc.takes(b.Exact, b.Frames[0].Link, n) {
		f.pass(b.Records, n)
		return
	}
	for rest := b.Frames; len(rest) > 0; {
		if f.err != nil {
			f.drop(DropWrite, len(rest))
			return
		}
		if n, same := f.enc.stored(b.Records, rest); n > 0 {
			f.pass(same, n)
			rest = rest[n:]
			continue
		}
		f.frame(&rest[0], b.Notes)
		rest = rest[1:]
	}
}

// directBytes is what is worth a write of its own, from where it is.
const directBytes = 16 << 10

// pass writes frames that are already as they shall be.
func (f *File) pass(same []byte, frames int) {
	if len(same) >= directBytes {
		f.flush(false)
		f.pending += frames
		f.write(same, false)
		return
	}
	f.pending += frames
	f.append(append(f.buf, same...))
}

// frame writes a frame.
func (f *File) frame(x *frame.Frame, notes [][]string) {
	if len(x.Data) > MaxFrame {
		f.drop(DropTooLong, 1)
		return
	}
	b, err := f.enc.frame(f.buf, x, notes)
	if err != nil {
		f.flush(true)
		f.fail(err)
		f.drop(DropLink, 1)
		return
	}
	f.pending++
	f.append(b)
}

// append takes over a buffer with more in it.
func (f *File) append(b []byte) {
	if f.buf = b; len(b) >= bufferBytes {
		f.flush(false)
	}
}

func (f *File) drop(reason, n int) {
	f.book.Hold(-n)
	f.book.Drop(reason, n)
}

// flush writes the buffer; through also what a compressor keeps.
func (f *File) flush(through bool) {
	if through && f.err == nil {
		f.buf = f.enc.lead(f.buf)
	}
	if len(f.buf) > 0 {
		f.write(f.buf, through)
		f.buf = f.buf[:0]
	}
}

// write writes blocks with all frames that are pending.
func (f *File) write(b []byte, through bool) {
	if f.err != nil {
		f.drop(DropWrite, f.pending)
		f.pending = 0
		return
	}
	n, err := f.out.Write(b)
	if err == nil && through && f.stream != nil {
		err = f.stream.Flush()
	}
	frames, whole := f.pending, len(b)
	if err != nil {
		frames, whole = f.enc.whole(b[:n])
	}
	f.book.Hold(-frames)
	f.book.Out(frames)
	f.frames += uint64(frames)
	f.written += int64(whole)
	if err != nil {
		f.drop(DropWrite, f.pending-frames)
		if f.regular && f.stream == nil {
			_ = f.file.Truncate(f.written) // the last frame in part would only be in the reader's way
		}
		f.fail(err)
	}
	f.pending = 0
}

func (f *File) fail(err error) {
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err // its path is in the text already
	}
	f.err = fmt.Errorf("deliver: %s: %d frames written: %w", f.name(), f.frames, err)
	if f.cfg.Failed != nil {
		f.cfg.Failed()
	}
}

func (f *File) name() string {
	if f.cfg.Path == "-" {
		return f.cfg.Format.String() + ": standard output"
	}
	return f.cfg.Format.String() + ": " + f.cfg.Path
}

// open opens the file.
func (f *File) open() error {
	f.out = f.cfg.Stdout
	if f.cfg.Path != "-" {
		if err := f.create(); err != nil {
			return err
		}
		f.out = f.file
	}
	switch {
	case strings.HasSuffix(f.cfg.Path, ".gz"):
		f.stream, _ = gzip.NewWriterLevel(f.out, gzip.BestSpeed)
	case strings.HasSuffix(f.cfg.Path, ".zst"):
		z, err := zstd.NewWriter(f.out, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
		if err != nil {
			return err
		}
		f.stream = z
	}
	if f.stream != nil {
		f.out = f.stream
	}
	return nil
}

// create opens the file for writing, for its owner alone: a capture holds what others have said.
func (f *File) create() error {
	file, err := os.OpenFile(f.cfg.Path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return wayOut(err)
	}
	st, err := file.Stat()
	f.file, f.regular = file, err == nil && st.Mode().IsRegular()
	return nil
}

// wayOut adds to the error of a file that cannot be opened for writing what to do about it.
func wayOut(err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w: make its folder first", err)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: name a file in a folder that this user may write to, or - for standard output", err)
	case errors.Is(err, unix.EISDIR):
		return fmt.Errorf("%w: name a file in it", err)
	}
	return err
}

// End ends the file and returns why writing failed, else why.
func (f *File) End(why error) error {
	if f.err == nil {
		f.buf = f.enc.foot(f.buf)
		f.flush(false)
	}
	if f.stream != nil {
		if err := f.stream.Close(); f.err == nil && err != nil {
			f.fail(err)
		}
	}
	if f.file != nil {
		var err error
		if f.regular {
			err = f.file.Sync()
		}
		if err = errors.Join(err, f.file.Close()); f.err == nil && err != nil {
			f.fail(err)
		}
	}
	if f.err != nil {
		return f.err
	}
	return why
}
