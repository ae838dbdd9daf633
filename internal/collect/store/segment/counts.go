package segment

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/klauspost/compress/zstd"

	"crosstap/internal/collect/store"
)

// countsName is the file of what hypervisors count at adapters. It is a log: each entry is its length and its CRC-32C, four bytes each, and the message
// Counts of docs/formats/flow.proto compressed with zstd.
const countsName = "COUNTS"

// Bounds of the counts of a store, and of its log.
const (
	maxCounted  = 32_768 // sources, some 17 KiB each; the one silent for longest goes
	maxFeeds    = 4096
	maxOwners   = 64
	maxEntry    = 64 << 20 // bytes, also unpacked
	countsEntry = 256      // sources in an entry when the log is written anew
	countsSlack = 32 << 20 // bytes by which the log may grow, and to twice its size, before that
)

// countCell is a cell with the owner that its source had.
type countCell struct {
	store.CountCell
	owner int32
}

// counted is what is kept of one source.
type counted struct {
	name, uuid     string
	owners         []store.Owner
	newest         int64 // slot of the hour that was told of last
	minutes, hours []countCell
}

// countLog keeps the counts. Its mutex is the store's.
type countLog struct {
	path    string
	f       *os.File // nil for a reader
	size    int64    // of the good part of the file
	whole   int64    // that it had when it was written anew
	sources map[store.CountKey]*counted
	feeds   map[string]uint64 // the last batch of each
	order   []string          // of feeds, the first heard of first
	zip     *zstd.Encoder
}

func newCountLog(path string) *countLog {
	return &countLog{path: path, sources: map[store.CountKey]*counted{}, feeds: map[string]uint64{}}
}

// readCounts reads the log up to where it is torn or damaged.
func readCounts(path string) (*countLog, error) {
	l := newCountLog(path)
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	unzip, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxEntry))
	if err != nil {
		return nil, err
	}
	defer unzip.Close()
	var room []byte
	for rest := text; len(rest) >= 8; {
		n := binary.LittleEndian.Uint32(rest)
		if n > maxEntry || int(n) > len(rest)-8 || crc32.Checksum(rest[8:8+n], castagnoli) != binary.LittleEndian.Uint32(rest[4:]) {
			break
		}
		if room, err = unzip.DecodeAll(rest[8:8+n], room[:0]); err != nil {
			break
		}
		c, err := store.ParseCounts(room)
		if err != nil {
			break
		}
		l.take(&c)
		rest = rest[8+n:]
		l.size = int64(len(text) - len(rest))
	}
	l.whole = l.size
	return l, nil
}

// openForWriting cuts a torn end off.
func (l *countLog) openForWriting() (err error) {
	if l.zip, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1)); err != nil {
		return err
	}
	if l.f, err = os.OpenFile(l.path, os.O_RDWR|os.O_CREATE, 0o640); err != nil {
		return err
	}
	return l.f.Truncate(l.size)
}

func (l *countLog) close() {
	if l != nil && l.f != nil {
		l.f.Close()
		l.f = nil
	}
}

func (l *countLog) entry(b []byte, c *store.Counts) []byte {
	start := len(b)
	b = l.zip.EncodeAll(c.Append(nil), append(b, make([]byte, 8)...))
	binary.LittleEndian.PutUint32(b[start:], uint32(len(b)-start-8))
	binary.LittleEndian.PutUint32(b[start+4:], crc32.Checksum(b[start+8:], castagnoli))
	return b
}

// append makes counts durable, and then takes them in.
func (l *countLog) append(c *store.Counts) error {
	if l.has(c) {
		return nil
	}
	text := l.entry(nil, c)
	_, err := l.f.WriteAt(text, l.size)
	if err == nil {
		err = l.f.Sync()
	}
	if err != nil {
		return errors.Join(err, l.f.Truncate(l.size))
	}
	l.size += int64(len(text))
	l.take(c)
	if l.size > 2*l.whole+countsSlack {
		return l.rewrite()
	}
	return nil
}

// rewrite writes the log anew, with what is kept of it.
func (l *countLog) rewrite() error {
	f, err := os.Create(l.path + ".new")
	if err != nil {
		return err
	}
	size, err := l.writeTo(f)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), l.path)
	}
	if err != nil {
		return errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	err = errors.Join(l.f.Close(), syncDir(filepath.Dir(l.path)))
	l.f, l.size, l.whole = f, size, size
	return err
}

// writeTo writes what is kept, and returns how many bytes that is.
func (l *countLog) writeTo(f io.Writer) (size int64, err error) {
	put := func(c store.Counts) {
		if err == nil {
			var n int
			n, err = f.Write(l.entry(nil, &c))
			size += int64(n)
		}
	}
	for _, feed := range l.order {
		put(store.Counts{Feed: feed, Seq: l.feeds[feed]})
	}
	var some store.Counts
	for k, s := range l.sources {
		some.List = s.list(some.List, k, func(store.CountCell) bool { return true })
		if len(some.List) >= countsEntry {
			put(some)
			some.List = some.List[:0]
		}
	}
	put(some)
	return size, err
}

// has reports whether a batch was taken before.
func (l *countLog) has(c *store.Counts) bool { return c.Feed != "" && c.Seq <= l.feeds[c.Feed] }

// take adds up a batch.
func (l *countLog) take(c *store.Counts) {
	if l.has(c) {
		return
	}
	if c.Feed != "" {
		if l.feeds[c.Feed] == 0 {
			l.order = append(l.order, c.Feed)
		}
		l.feeds[c.Feed] = c.Seq
		if len(l.order) > maxFeeds {
			delete(l.feeds, l.order[0])
			l.order = l.order[1:]
		}
	}
	for i := range c.List {
		l.add(&c.List[i])
	}
}

func (l *countLog) add(c *store.Count) {
	s := l.sources[c.CountKey]
	if s == nil {
		if len(l.sources) >= maxCounted {
			l.makeRoom()
		}
		s = &counted{}
		l.sources[c.CountKey] = s
	}
	s.name, s.uuid = cmp.Or(c.Name, s.name), cmp.Or(c.UUID, s.uuid)
	owner := s.owner(c.Owner)
	for _, cell := range c.Cells {
		cell.Slots(func(width, slot int64, part store.CountCell) { s.put(width, slot, countCell{part, owner}) })
	}
}

// makeRoom forgets the source that is silent for longest.
func (l *countLog) makeRoom() {
	var oldest store.CountKey
	at := int64(1<<63 - 1)
	for k, s := range l.sources {
		if s.newest < at {
			oldest, at = k, s.newest
		}
	}
	delete(l.sources, oldest)
}

// owner finds or enters an owner. One that is known for a longer time now holds for that.
func (s *counted) owner(o store.Owner) int32 {
	same := func(x store.Owner) bool { x.FromNS, x.ToNS = o.FromNS, o.ToNS; return x == o }
	if i := slices.IndexFunc(s.owners, same); i >= 0 {
		x := &s.owners[i]
		x.FromNS = min(x.FromNS, o.FromNS)
		if x.ToNS == 0 || o.ToNS == 0 { // it holds still
			x.ToNS = 0
		} else {
			x.ToNS = max(x.ToNS, o.ToNS)
		}
		return int32(i)
	}
	if len(s.owners) >= maxOwners {
		s.forgetOwners()
	}
	s.owners = append(s.owners, o)
	return int32(len(s.owners) - 1)
}

// forgetOwners leaves out those without cells.
func (s *counted) forgetOwners() {
	to := map[int32]int32{}
	var left []store.Owner
	for _, list := range [...][]countCell{s.hours, s.minutes} {
		for i := range list {
			was := list[i].owner
			if _, ok := to[was]; !ok {
				to[was] = int32(len(left))
				left = append(left, s.owners[was])
			}
			list[i].owner = to[was]
		}
	}
	s.owners = left
}

// put adds the part of a cell that lies in a slot to what is there of it. What is older than is kept is let go of.
func (s *counted) put(width, slot int64, c countCell) {
	list, oldest := &s.hours, s.newest-(store.CountHours-1)*store.CountHour
	if width == store.CountMinute {
		list, oldest = &s.minutes, s.newest-store.CountHour
	}
	if slot < oldest {
		return
	}
	if width == store.CountHour && slot > s.newest {
		s.newest = slot
		s.hours = after(s.hours, slot-(store.CountHours-1)*store.CountHour)
		s.minutes = after(s.minutes, slot-store.CountHour)
	}
	i := len(*list)
	for ; i > 0; i-- {
		at := &(*list)[i-1]
		switch begun := store.CountSlot(at.FromNS, width); {
		case begun == slot && at.owner == c.owner:
			at.Add(c.CountCell)
			return
		case begun < slot:
			*list = slices.Insert(*list, i, c)
			return
		}
	}
	*list = slices.Insert(*list, i, c)
}

// after leaves out cells that begin before a time; the list is in order.
func after(list []countCell, ns int64) []countCell {
	n := 0
	for n < len(list) && list[n].FromNS < ns {
		n++
	}
	return slices.Delete(list, 0, n)
}

// list appends what is kept of a source: hours, and minutes from the hour on of which these are kept.
func (s *counted) list(out []store.Count, k store.CountKey, wanted func(store.CountCell) bool) []store.Count {
	first := len(out)
	for _, o := range s.owners {
		out = append(out, store.Count{CountKey: k, Name: s.name, UUID: s.uuid, Owner: o})
	}
	fine := s.newest - store.CountHour
	for _, c := range s.hours {
		if c.FromNS < fine && wanted(c.CountCell) {
			out[first+int(c.owner)].Cells = append(out[first+int(c.owner)].Cells, c.CountCell)
		}
	}
	for _, c := range s.minutes {
		if wanted(c.CountCell) {
			out[first+int(c.owner)].Cells = append(out[first+int(c.owner)].Cells, c.CountCell)
		}
	}
	return out
}

// AppendCounts implements store.CountKeeper.
func (s *Store) AppendCounts(_ context.Context, c store.Counts) error {
	if s.cfg.ReadOnly {
		return fmt.Errorf("segment: %s is open for reading only", s.cfg.Dir)
	}
	s.countsMu.Lock()
	defer s.countsMu.Unlock()
	if s.counts.f == nil {
		return ErrClosed
	}
	if err := s.counts.append(&c); err != nil {
		return fmt.Errorf("segment: counts: %w", err)
	}
	return nil
}

// Counts implements store.CountReader.
func (s *Store) Counts(_ context.Context, fromNS, toNS int64) ([]store.Count, error) {
	s.countsMu.Lock()
	defer s.countsMu.Unlock()
	if s.cfg.ReadOnly {
		path := filepath.Join(s.cfg.Dir, countsName)
		if now := stampOf(path); s.counts == nil || now != s.countsStamp {
			l, err := readCounts(path)
			if err != nil {
				return nil, fmt.Errorf("segment: counts: %w", err)
			}
			s.counts, s.countsStamp = l, now
		}
	}
	var out []store.Count
	for k, x := range s.counts.sources {
		out = x.list(out, k, func(c store.CountCell) bool { return c.FromNS < toNS && c.ToNS > fromNS })
	}
	slices.SortFunc(out, func(a, b store.Count) int {
		return cmp.Or(bytes.Compare(a.Agent[:], b.Agent[:]), cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.Class, b.Class), cmp.Compare(a.Index, b.Index),
			cmp.Compare(a.Owner.Fabric, b.Owner.Fabric), cmp.Compare(a.Owner.Host, b.Owner.Host), cmp.Compare(a.Owner.VM, b.Owner.VM), cmp.Compare(a.Owner.VMID, b.Owner.VMID),
			cmp.Compare(a.Owner.Reason, b.Owner.Reason))
	})
	return out, nil
}

// openCounts opens the log for writing.
func (s *Store) openCounts() (err error) {
	if s.counts, err = readCounts(filepath.Join(s.cfg.Dir, countsName)); err != nil {
		return err
	}
	return s.counts.openForWriting()
}
