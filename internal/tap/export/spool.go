package export

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"crosstap/internal/flowproto/ipfix"
)

// spool keeps messages on the disk, first in first out, in a folder of its own. Its files are IPFIX Files (RFC 5655), each of which
// begins with all templates; the sequence number of a stored message is the number of flow records in it, since
// the real one is known when it is sent. What was put survives the process; an outage of the machine may cost what the
// system had not yet written. A full spool takes no more: what was accepted is never given up for what comes later.
//
// A second process cannot open the folder. One goroutine at a time.
type spool struct {
	dir  string
	max  int64
	lock *os.File

	files   []spoolFile // in order, the first is the oldest
	w       *os.File    // the last of files while it grows, nil when the next message begins another
	r       *os.File    // of the file that is being read
	read    place       // what is read next
	done    place       // what is not yet acknowledged
	bytes   int64       // of all files
	unread  int         // messages not read since the last rewind
	waiting int         // messages not acknowledged
	records uint64      // in them
	defs    *ipfix.Replay
	state   *os.File
}

type spoolFile struct {
	n    uint64
	size int64
}

// place is a place in a spool: a file's number and an offset in it.
type place struct {
	n   uint64
	off int64
}

const (
	spoolFileBytes = 4 << 20
	spoolFirst     = 1 << 32 // the number of the first file; there are lower ones for what must go before it
	spoolSuffix    = ".ipfix"
	spoolState     = "position"
)

// errSpoolBusy says that somebody else has the folder.
var errSpoolBusy = errors.New("in use")

var errSpoolFull = errors.New("export: the spool is full")

// openSpool opens the folder, and makes it when it is not there. What an earlier process left is found again; a message that was
// cut off is given up, and its bytes are counted.
func openSpool(dir string, max int64) (s *spool, damaged int64, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, 0, err
	}
	s = &spool{dir: dir, max: max, defs: ipfix.NewReplay()}
	if s.lock, err = lockFile(filepath.Join(dir, "lock")); err != nil {
		return nil, 0, fmt.Errorf("%s: %w: another process or tap has this spool", dir, err)
	}
	if s.state, err = os.OpenFile(filepath.Join(dir, spoolState), os.O_RDWR|os.O_CREATE, 0o600); err == nil {
		damaged, err = s.find()
	}
	if err != nil {
		s.close()
		return nil, 0, err
	}
	return s, damaged, nil
}

// find reads what is there: the files, and where reading goes on.
func (s *spool) find() (damaged int64, err error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), spoolSuffix)
		if n, err := strconv.ParseUint(name, 10, 64); ok && err == nil {
			s.files = append(s.files, spoolFile{n: n})
		}
	}
	slices.SortFunc(s.files, func(a, b spoolFile) int {
		if a.n < b.n {
			return -1
		}
		return 1
	})
	var b [16]byte
	if n, _ := s.state.ReadAt(b[:], 0); n == len(b) {
		s.done = place{binary.BigEndian.Uint64(b[:]), int64(binary.BigEndian.Uint64(b[8:]))}
	}
	for i := range s.files {
		bad, err := s.scan(&s.files[i])
		if err != nil {
			return damaged, err
		}
		damaged += bad
		s.bytes += s.files[i].size
	}
	s.dropFiles()
	s.rewind()
	return damaged, nil
}

// scan walks the messages of a file: it counts those that are not acknowledged, learns the templates and cuts off a damaged end.
func (s *spool) scan(f *spoolFile) (damaged int64, err error) {
	data, err := os.ReadFile(s.path(f.n))
	if err != nil {
		return 0, err
	}
	for int64(len(data)) > f.size {
		h, err := ipfix.ParseHeader(data[f.size:])
		if err != nil || s.defs.Learn(data[f.size:f.size+int64(h.Length)]) != nil {
			damaged = int64(len(data)) - f.size
			return damaged, os.Truncate(s.path(f.n), f.size)
		}
		if f.n > s.done.n || f.n == s.done.n && f.size >= s.done.off || s.done.n == 0 {
			s.waiting++
			s.records += uint64(h.Sequence)
		}
		f.size += int64(h.Length)
	}
	return 0, nil
}

func (s *spool) path(n uint64) string {
	return filepath.Join(s.dir, fmt.Sprintf("%020d%s", n, spoolSuffix))
}

// empty reports whether nothing is there that was not acknowledged.
func (s *spool) empty() bool { return s.waiting == 0 }

// put appends a message of so many flow records.
func (s *spool) put(msg []byte, records int) error {
	if s.bytes+int64(len(msg)) > s.max {
		return errSpoolFull
	}
	if err := s.defs.Learn(msg); err != nil {
		return err
	}
	if s.w == nil || s.files[len(s.files)-1].size >= spoolFileBytes {
		if err := s.grow(msg); err != nil {
			return err
		}
	}
	if err := s.write(s.w, &s.files[len(s.files)-1], msg, records); err != nil {
		return err
	}
	s.waiting++
	s.unread++
	s.records += uint64(records)
	return nil
}

// grow begins a file, with the templates.
func (s *spool) grow(msg []byte) error {
	n := max(uint64(spoolFirst), s.done.n+1)
	if len(s.files) > 0 {
		n = s.files[len(s.files)-1].n + 1
	}
	if s.w != nil {
		if err := errors.Join(s.w.Sync(), s.w.Close()); err != nil {
			return err
		}
		s.w = nil
	}
	w, f, err := s.begin(n, msg)
	if err != nil {
		return err
	}
	s.w, s.files = w, append(s.files, f)
	if len(s.files) == 1 {
		s.rewind()
	}
	return nil
}

// begin makes a file with the templates.
func (s *spool) begin(n uint64, header []byte) (*os.File, spoolFile, error) {
	f := spoolFile{n: n}
	w, err := os.OpenFile(s.path(n), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, f, err
	}
	err = s.defs.Definitions(header, func(defs []byte) error {
		if err := s.write(w, &f, defs, 0); err != nil {
			return err
		}
		s.waiting++
		s.unread++
		return nil
	})
	if err != nil {
		w.Close()
		return nil, f, errors.Join(err, os.Remove(s.path(n)))
	}
	return w, f, nil
}

// write appends a message to a file, all of it or nothing.
func (s *spool) write(w *os.File, f *spoolFile, msg []byte, records int) error {
	binary.BigEndian.PutUint32(msg[8:], uint32(records))
	if _, err := w.WriteAt(msg, f.size); err != nil {
		return errors.Join(err, w.Truncate(f.size))
	}
	f.size += int64(len(msg))
	s.bytes += int64(len(msg))
	return nil
}

// putFirst writes messages into a file before all others.
func (s *spool) putFirst(all []packet) error {
	n := s.files[0].n - 1
	w, f, err := s.begin(n, all[0].msg)
	if err != nil {
		return err
	}
	for _, p := range all {
		if err := s.write(w, &f, p.msg, p.records); err != nil {
			break // what did not fit is dropped by the caller
		}
		s.waiting++
		s.records += uint64(p.records)
	}
	s.files = slices.Insert(s.files, 0, f)
	s.done = place{n: n}
	return errors.Join(w.Close(), s.save())
}

// next returns the message that is read next, its flow records and the place behind it; false at the end.
func (s *spool) next() (p packet, ok bool, err error) {
	if s.unread == 0 {
		return p, false, nil
	}
	for {
		i := slices.IndexFunc(s.files, func(f spoolFile) bool { return f.n >= s.read.n })
		if i < 0 {
			return p, false, nil
		}
		if s.files[i].n > s.read.n {
			s.open(place{n: s.files[i].n})
		}
		if s.read.off < s.files[i].size {
			break
		}
		s.open(place{n: s.read.n + 1})
	}
	if s.r == nil {
		if s.r, err = os.Open(s.path(s.read.n)); err != nil {
			return p, false, err
		}
	}
	var head [ipfix.HeaderLen]byte
	if _, err := s.r.ReadAt(head[:], s.read.off); err != nil {
		return p, false, err
	}
	p.msg = make([]byte, binary.BigEndian.Uint16(head[2:]))
	if _, err := s.r.ReadAt(p.msg, s.read.off); err != nil && !errors.Is(err, io.EOF) {
		return p, false, err
	}
	s.read.off += int64(len(p.msg))
	s.unread--
	p.records, p.behind = int(binary.BigEndian.Uint32(head[8:])), s.read
	return p, true, nil
}

// open moves reading to a place.
func (s *spool) open(at place) {
	if s.r != nil {
		s.r.Close()
		s.r = nil
	}
	s.read = at
}

// rewind moves reading back to what is not acknowledged.
func (s *spool) rewind() {
	at := s.done
	if len(s.files) > 0 && at.n < s.files[0].n {
		at = place{n: s.files[0].n}
	}
	s.open(at)
	s.done, s.unread = at, s.waiting
}

// ack gives up a message that next returned, and all before it.
func (s *spool) ack(p packet) error {
	s.done = p.behind
	s.waiting--
	s.records -= uint64(p.records)
	err := s.save()
	s.dropFiles()
	return err
}

// dropFiles removes the files that are done with; the last one too, when all is acknowledged.
func (s *spool) dropFiles() {
	for len(s.files) > 0 {
		f := s.files[0]
		if f.n > s.done.n || f.n == s.done.n && s.done.off < f.size {
			return
		}
		if len(s.files) == 1 && s.w != nil {
			s.w.Close()
			s.w = nil
		}
		if s.r != nil && s.read.n == f.n {
			s.open(place{n: f.n + 1})
		}
		_ = os.Remove(s.path(f.n)) // one that stays is empty of news
		s.bytes -= f.size
		s.files = s.files[1:]
	}
	s.bytes = 0
}

// save notes what is acknowledged.
func (s *spool) save() error {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], s.done.n)
	binary.BigEndian.PutUint64(b[8:], uint64(s.done.off))
	_, err := s.state.WriteAt(b[:], 0)
	return err
}

// close ends the use of the folder.
func (s *spool) close() {
	for _, f := range []*os.File{s.w, s.r, s.state} {
		if f != nil {
			if f == s.w {
				_ = f.Sync()
			}
			_ = f.Close()
		}
	}
	if s.lock != nil {
		_ = s.lock.Close() // gives up the lock
	}
}
