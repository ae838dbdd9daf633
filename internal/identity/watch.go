package identity

import (
	"context"
	"errors"
	"os"
	"time"
)

// watchEvery is how often Watch looks at its file.
const watchEvery = time.Second

// Watch reads an inventory file and follows its changes until ctx ends. update is called, from one
// goroutine, with a Book each time the file was read well, and with an error each time it became
// unreadable: the caller then keeps the Book it has. What disappears from the file between two
// readings ends at that moment but stays known for flows of the past (see Succeed).
func Watch(ctx context.Context, path string, update func(Book, error)) error {
	w := watcher{path: path, now: func() int64 { return time.Now().UnixNano() }}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		if book, changed, err := w.look(); changed {
			update(book, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// watcher is what Watch remembers from one look to the next.
type watcher struct {
	path    string
	now     func() int64
	seen    fileStamp
	started bool
	inv     Inventory
}

// fileStamp tells one state of a file from another.
type fileStamp struct {
	modNS  int64
	size   int64
	exists bool
}

func stamp(path string) fileStamp {
	info, err := os.Stat(path)
	if err != nil {
		return fileStamp{exists: !errors.Is(err, os.ErrNotExist)}
	}
	return fileStamp{modNS: info.ModTime().UnixNano(), size: info.Size(), exists: true}
}

// look reads the file when it has changed. A file that changes while it is read is left for the
// next look.
func (w *watcher) look() (book Book, changed bool, err error) {
	before := stamp(w.path)
	if w.started && before == w.seen {
		return nil, false, nil
	}
	inv, err := Load(w.path)
	if stamp(w.path) != before {
		return nil, false, nil
	}
	w.seen, w.started = before, true
	if err != nil {
		return nil, true, err
	}
	w.inv = Succeed(w.inv, inv, w.now())
	return NewBook(w.inv.clone()), true, nil
}

// clone copies the lists, so that a Book may keep its own.
func (inv Inventory) clone() Inventory {
	return Inventory{
		VNICs: append([]VNIC(nil), inv.VNICs...), Hosts: append([]Host(nil), inv.Hosts...),
		Observers: append([]Observer(nil), inv.Observers...), Tenants: append([]Tenant(nil), inv.Tenants...),
	}
}
