package deliver

import (
	"encoding/binary"
	"hash"
	"hash/crc32"
	"io"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// packer compresses what is written to a file. What the file does not take waits, so that the compressor can go on when there is room again. Where it was flushed,
// end could end the file: so one whose disk stays full can be made whole without what the compressor has taken since.
type packer struct {
	compressor
	to   *patientWriter
	sum  hash.Hash // of what was compressed, as the format's end has it
	size uint32    // of what was compressed, modulo 2^32
	put  func(p *packer) []byte
	end  []byte
}

// compressor is what gzip and zstd writers have in common.
type compressor interface {
	io.WriteCloser
	Flush() error
}

// patientWriter keeps what was written since the compressor was flushed last.
type patientWriter struct {
	w     io.Writer
	safe  int64  // bytes of the file by then
	since []byte // what came after them
	done  int    // how much of it the file has
	err   error  // of the write that failed
}

// Write never fails: the compressor would not go on after an error.
func (p *patientWriter) Write(b []byte) (int, error) {
	p.since = append(p.since, b...)
	if p.err == nil {
		p.try()
	}
	return len(b), nil
}

// try writes what waits.
func (p *patientWriter) try() {
	left := p.since[p.done:]
	n, err := p.w.Write(left)
	if err == nil && n < len(left) {
		err = io.ErrShortWrite
	}
	p.done, p.err = p.done+n, err
}

// newGzip compresses with gzip (RFC 1952). A flush leaves its blocks at the end of a byte (RFC 1951, section 3.2.4), so that an empty last
// one and the sums can follow.
func newGzip(w io.Writer) *packer {
	to := &patientWriter{w: w}
	z, _ := gzip.NewWriterLevel(to, gzip.BestSpeed) // the level is one of the package's
	return &packer{compressor: z, to: to, sum: crc32.NewIEEE(), put: func(p *packer) []byte {
		b := append(p.end[:0], 1, 0, 0, 0xff, 0xff)
		b = binary.LittleEndian.AppendUint32(b, binary.BigEndian.Uint32(p.sum.Sum(nil)))
		return binary.LittleEndian.AppendUint32(b, p.size)
	}}
}

// newZstd compresses with Zstandard (RFC 8878): an empty last block and the checksum (sections 3.1.1.2, 3.1.1) end a frame.
func newZstd(w io.Writer) (*packer, error) {
	to := &patientWriter{w: w}
	z, err := zstd.NewWriter(to, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	return &packer{compressor: z, to: to, sum: xxhash.New(), put: func(p *packer) []byte {
		b := append(p.end[:0], 1, 0, 0)
		return binary.LittleEndian.AppendUint32(b, uint32(binary.BigEndian.Uint64(p.sum.Sum(nil))))
	}}, nil
}

// write compresses b. With flush all that was compressed so far is in the file then.
func (p *packer) write(b []byte, flush bool) error {
	_, _ = p.sum.Write(b)
	p.size += uint32(len(b))
	if _, err := p.Write(b); err != nil {
		return err
	}
	if flush {
		if err := p.Flush(); err != nil {
			return err
		}
	}
	if p.to.err == nil && flush {
		p.to.safe, p.to.since, p.to.done = p.to.safe+int64(len(p.to.since)), p.to.since[:0], 0
		p.end = p.put(p)
	}
	return p.to.err
}

// close ends what was compressed.
func (p *packer) close() error {
	if err := p.Close(); err != nil {
		return err
	}
	return p.to.err
}

// resume goes on after an error, in a file that ends where it was flushed.
func (p *packer) resume() error {
	p.to.done = 0
	p.to.try()
	return p.to.err
}
