package deliver

import (
	"io"
	"time"

	"crosstap/internal/frame"
)

func (f *File) batch(b frame.Batch) {
	f.book.In(len(b.Frames))
	f.book.Hold(len(b.Frames))
	if f.err != nil {
		f.retry(time.Now())
	}
	if f.err == nil {
		f.append(f.enc.lead(f.buf))
	}
	if n := len(b.Frames); n > 0 && n == b.Intact && f.err == nil && f.enc.takes(b.Exact, b.Frames[0].Link, n) {
		f.pass(b.Records, n)
		return
	}
	for rest := b.Frames; len(rest) > 0; {
		if f.err != nil {
			f.lose(len(rest))
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
		if !f.cfg.Again {
			f.flush(true)
			f.fail(err)
		} else if f.faults.begin(f.broken(err)) {
			f.cfg.Log.Warn("frames of another link type are left out of the file", "to", f.Where(), "error", err)
		}
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

// lose drops frames because nothing can be written.
func (f *File) lose(n int) {
	f.drop(f.reason, n)
	f.trial.lost += uint64(n)
}

// flush writes the buffer; through also what a compressor keeps.
func (f *File) flush(through bool) {
	if f.err != nil {
		return
	}
	if through {
		f.buf = f.enc.lead(f.buf)
	}
	if len(f.buf) > 0 || through && f.pending > 0 {
		f.write(f.buf, through)
		if f.err == nil {
			f.buf = f.buf[:0]
		}
	}
}

// write writes blocks with all frames that are pending. What could not be written is in the buffer then.
func (f *File) write(b []byte, through bool) {
	if f.pack != nil {
		f.compress(b, through)
		return
	}
	n, err := f.out.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err == nil {
		f.wrote(f.pending, int64(len(b)))
		f.faults.end()
		return
	}
	frames, whole := f.enc.whole(b[:n])
	f.wrote(frames, int64(whole))
	f.buf = append(f.buf[:0], b[whole:]...)
	f.fail(err)
}

// compressedBytes is how much is given to a compressor before it has to write all that it keeps.
const compressedBytes = 256 << 10

// compress writes blocks through the compressor. Their frames are in the file when all of it was flushed: only there it could be ended.
func (f *File) compress(b []byte, through bool) {
	f.packed += len(b)
	through = through || f.packed >= compressedBytes
	err := f.pack.write(b, through)
	switch {
	case err != nil:
		f.buf = f.buf[:0] // the compressor has it
		f.fail(err)
	case through:
		f.packed = 0
		f.wrote(f.pending, f.pack.to.safe-f.safe)
		f.faults.end()
	}
}

// wrote takes note that some of the frames that were pending are in the file, with n bytes more that are whole.
func (f *File) wrote(frames int, n int64) {
	f.book.Hold(-frames)
	f.book.Out(frames)
	f.frames += uint64(frames)
	f.pending -= frames
	f.safe += n
}
