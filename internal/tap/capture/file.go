package capture

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"crosstap/internal/frame"
	"crosstap/internal/ledger"
)

// FileConfig says which capture file to read.
type FileConfig struct {
	Path    string    // file name; "-" for standard input
	Reader  io.Reader // read instead of Path when not nil; Path then only names it
	SnapLen int       // keep at most so many bytes of each frame; 0 for all
}

// Validate reports the first mistake.
func (c FileConfig) Validate() error {
	if c.Path == "" && c.Reader == nil {
		return errors.New("capture: no file name: give a path, or - for standard input")
	}
	if c.SnapLen < 0 {
		return fmt.Errorf("capture: snap length %d: must not be negative", c.SnapLen)
	}
	return nil
}

// File reads a pcap or pcapng capture, also one compressed with gzip or zstd, from a file or a
// pipe. Frames point into the read buffer; nothing is copied.
type File struct {
	cfg  FileConfig
	book *ledger.Book
	pool chunks

	ahead *input // that Open has opened

	read atomic.Int64 // bytes of the file
	size atomic.Int64 // 0 when not known
	unit atomic.Int64 // nanoseconds

	mu    sync.Mutex
	names map[uint32]string // of the interfaces, by point

	about about
}

// NewFile returns a source that reads the capture once.
func NewFile(cfg FileConfig) (*File, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &File{cfg: cfg, book: newBook()}, nil
}

// Book returns the source's account.
func (f *File) Book() *ledger.Book { return f.book }

// Interface returns the name that the capture gives the interface of a point, "" for none. It is safe for concurrent use.
func (f *File) Interface(point uint32) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.names[point]
}

func (f *File) named(point uint32, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.names == nil {
		f.names = map[uint32]string{}
	}
	f.names[point] = name
}

// Progress returns the bytes that were read of the file, as it is stored, and its size, 0 when that is not known. It is safe for
// concurrent use.
func (f *File) Progress() (read, size int64) { return f.read.Load(), f.size.Load() }

// Unit returns the unit of all time stamps of the capture; 0 when it is not known yet, or each interface has its own. It is known when
// the first batch comes, and safe for concurrent use.
func (f *File) Unit() time.Duration { return time.Duration(f.unit.Load()) }

// counted is a reader that says how far it is.
type counted struct {
	r io.Reader
	n *atomic.Int64
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// Run sends every complete frame of the capture to out and returns. When the capture is cut or
// damaged, the frames before that point have been sent, and the error names the offset
// (in the uncompressed capture). When ctx ends, Run stops without an error. Run does not close out.
func (f *File) Run(ctx context.Context, out chan<- frame.Batch) error {
	return f.Each(ctx, func(b frame.Batch) bool {
		select {
		case out <- b:
			return true
		case <-ctx.Done():
			return false
		}
	})
}

// Each is Run for one who takes the batches where they are made. When take reports false, it has not taken the batch over, and Each
// stops as when ctx ends.
func (f *File) Each(ctx context.Context, take func(frame.Batch) bool) error {
	in := f.ahead
	if f.ahead = nil; in == nil {
		var err error
		if in, err = f.start(ctx); err != nil {
			return f.failure(ctx, err)
		}
	}
	defer in.close()
	return f.failure(ctx, f.decode(ctx, in, take))
}

// Open reads the beginning of a file, so that one that is not there or is no capture is known before anything else is done; what may have to be
// waited for, such as a pipe, it leaves to Run.
func (f *File) Open(ctx context.Context) error {
	if f.cfg.Reader != nil || f.cfg.Path == "-" {
		return nil
	}
	if st, err := os.Stat(f.cfg.Path); err == nil && !st.Mode().IsRegular() && !st.IsDir() {
		return nil
	}
	in, err := f.start(ctx)
	f.ahead = in
	return f.failure(ctx, err)
}

// Close gives up what Open has opened, when it is not read.
func (f *File) Close() {
	if f.ahead != nil {
		f.ahead.close()
		f.ahead = nil
	}
}

// failure completes an error; there is none when ctx has ended.
func (f *File) failure(ctx context.Context, err error) error {
	var open *os.PathError
	switch {
	case err == nil || ctx.Err() != nil || errors.Is(err, context.Canceled):
		return nil
	case errors.As(err, &open) && open.Op == "open" && errors.Is(err, os.ErrPermission):
		return fmt.Errorf("capture: %w: run as a user who may read it, or pass it on: sudo cat FILE | crosstap tap -r -", err)
	case errors.As(err, &open) && open.Op == "open":
		return fmt.Errorf("capture: %w", err)
	}
	return fmt.Errorf("capture: %s: %w", f.name(), err)
}

// input is a capture whose beginning was read.
type input struct {
	*stretch
	format format
	closes []func()
}

func (in *input) close() {
	if in.stretch != nil {
		in.c.free()
	}
	for i := range in.closes {
		in.closes[len(in.closes)-1-i]()
	}
}

// start opens the capture and finds out its format.
func (f *File) start(ctx context.Context) (*input, error) {
	r, closeFile, err := f.open(ctx)
	if err != nil {
		return nil, err
	}
	in := &input{closes: []func(){closeFile}}
	r, done, err := uncompressed(counted{r, &f.read})
	if err == nil {
		in.closes, in.stretch = append(in.closes, done), newStretch(r, &f.pool)
		err = f.sniff(in)
	}
	if err != nil {
		in.close()
		return nil, err
	}
	return in, nil
}

// sniff finds out the format of a capture, and passes its header.
func (f *File) sniff(in *input) error {
	n, err := 0, error(nil)
	if in.format, n, err = sniff(in.rest()); err != nil {
		switch have := len(in.rest()); {
		case errors.Is(in.err, io.ErrUnexpectedEOF):
			return fmt.Errorf("offset %d: the compressed data end early: %w", have, ErrCut)
		case in.err != nil && !errors.Is(in.err, io.EOF):
			return fmt.Errorf("offset %d: %w", have, in.err)
		}
		return err
	}
	f.begin(in.format)
	in.pos += n
	return nil
}

// open returns the input. Reading from a pipe ends when ctx does.
func (f *File) open(ctx context.Context) (io.Reader, func(), error) {
	if f.cfg.Reader != nil {
		return f.cfg.Reader, func() {}, nil
	}
	path := f.cfg.Path
	if path == "-" {
		// A pipe opened again by name can be interrupted; the inherited descriptor cannot.
		if st, err := os.Stdin.Stat(); err != nil || st.Mode()&os.ModeNamedPipe == 0 {
			return os.Stdin, func() {}, nil
		}
		path = "/dev/stdin"
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	if st, err := file.Stat(); err == nil && st.Mode().IsRegular() {
		f.size.Store(st.Size())
	}
	stop := context.AfterFunc(ctx, func() { _ = file.SetReadDeadline(time.Unix(1, 0)) })
	return file, func() { stop(); file.Close() }, nil
}

func (f *File) name() string {
	if f.cfg.Path == "" || f.cfg.Path == "-" {
		return "standard input"
	}
	return f.cfg.Path
}

// uncompressed looks at the first bytes of r and puts the matching decompressor in front.
func uncompressed(r io.Reader) (io.Reader, func(), error) {
	br := bufio.NewReaderSize(r, 16)
	magic, err := br.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	switch {
	case len(magic) >= 2 && magic[0] == 0x1f && magic[1] == 0x8b:
		z, err := gzip.NewReader(bufio.NewReaderSize(br, 64<<10))
		if err != nil {
			return nil, nil, fmt.Errorf("gzip: %w", err)
		}
		return z, func() { z.Close() }, nil
	case string(magic) == "\x28\xb5\x2f\xfd":
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, nil, fmt.Errorf("zstd: %w", err)
		}
		return z, z.Close, nil
	}
	for _, c := range otherCompressions {
		if strings.HasPrefix(string(magic), c.magic) {
			return nil, nil, fmt.Errorf("it is compressed with %s; gzip and zstd are read as they are: give %s | crosstap tap -r -", c.name, c.command)
		}
	}
	return br, func() {}, nil
}

// otherCompressions are those that are known by their first four bytes only.
var otherCompressions = []struct{ magic, name, command string }{
	{"\xfd7zX", "xz", "xz -dc FILE"},
	{"BZh", "bzip2", "bzip2 -dc FILE"},
	{"\x04\x22\x4d\x18", "lz4", "lz4 -dc FILE"},
	{"PK\x03\x04", "zip", "unzip -p FILE"},
}

// format decodes whole records. decode appends the frames at the start of b to fs until fs has no
// room left, and returns them with the number of bytes consumed. When the record after them is not
// complete, need is the number of bytes that it is known to have; skip instead is the number of
// bytes from the consumed ones on that hold nothing of interest and may reach beyond b.
type format interface {
	decode(b []byte, fs []frame.Frame) (frames []frame.Frame, n, need int, skip int64, err error)
	// form says what all records of the last call have in common.
	form() frame.Form
	// notes returns the comments of the frames of the last call, as Batch.Notes has them; those of maxNotes frames fill it as batchFrames frames do.
	notes() [][]string
}

// sniff returns the format that the first bytes of a capture announce, and the length of its header.
func sniff(b []byte) (format, int, error) {
	switch len(b) {
	case 0:
		return nil, 0, errors.New("offset 0: there is nothing in it: want a pcap or pcapng capture, such as tcpdump -w or dumpcap write")
	case 1, 2, 3:
		return nil, 0, fmt.Errorf("offset 0: %d bytes are too few for a capture file: %w", len(b), ErrCut)
	}
	if string(b[:4]) == "\x0a\x0d\x0d\x0a" {
		return newPcapng(), 0, nil
	}
	return newPcap(b)
}

// decode is the loop from bytes to batches: fill a chunk, decode what is whole in it, carry the rest
// over to the next chunk.
func (f *File) decode(ctx context.Context, s *input, take func(frame.Batch) bool) error {
	for {
		rest := s.rest()
		frames, n, need, skip, err := s.format.decode(rest, s.c.room())
		s.pos += n
		notes := s.format.notes()
		if e := f.send(ctx, s.c, frame.Batch{Frames: frames, Records: rest[:n:n], Notes: notes, Exact: s.format.form(), Intact: len(frames)}, take); e != nil {
			return e
		}
		switch {
		case err != nil:
			return fmt.Errorf("offset %d: %w", s.at(), err)
		case len(frames) == batchFrames, len(notes) == maxNotes: // there is no room for more
		case skip > 0:
			if err := s.skip(skip); err != nil {
				return err
			}
		case s.err != nil:
			return ending(s.err, s.at(), len(s.rest()), need)
		default:
			s.more(need)
		}
	}
}

// begin takes over what the beginning of the capture says.
func (f *File) begin(x format) {
	switch x := x.(type) {
	case *pcapng:
		x.named, x.about = f.named, &f.about
	case *pcap:
		f.about.begin(nil)
		f.unit.Store(x.unitNS)
	}
}

// ending says why reading ended with n bytes left over: nothing, a cut capture or a read error.
func ending(err error, offset int64, n, need int) error {
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("offset %d: %w", offset+int64(n), err)
	}
	if n == 0 && errors.Is(err, io.EOF) {
		return nil
	}
	if need > 0 {
		return fmt.Errorf("offset %d: the record needs %d bytes, %d are left: %w", offset, need, n, ErrCut)
	}
	return fmt.Errorf("offset %d: %d bytes are too few for a record: %w", offset, n, ErrCut)
}

// ErrCut says that the capture ends in the middle of a record.
var ErrCut = errors.New("the capture is cut short")

// send passes a batch on, which holds the chunk.
func (f *File) send(ctx context.Context, c *chunk, b frame.Batch, take func(frame.Batch) bool) error {
	n := len(b.Frames)
	if n == 0 {
		return nil
	}
	c.frames = c.frames[:len(c.frames)+n]
	if f.cfg.SnapLen > 0 {
		b.Intact = 0
		for i := range b.Frames {
			if d := b.Frames[i].Data; len(d) > f.cfg.SnapLen {
				b.Frames[i].Data = d[:f.cfg.SnapLen:f.cfg.SnapLen]
			}
		}
	}
	c.refs.Add(1)
	b.Free = c.free
	f.book.In(n)
	f.book.Hold(n)
	err := ctx.Err()
	if err == nil && !take(b) {
		err = context.Canceled
	}
	f.book.Hold(-n)
	if err != nil {
		f.book.Drop(DropStopped, n)
		c.free()
		return err
	}
	f.book.Out(n)
	return nil
}
