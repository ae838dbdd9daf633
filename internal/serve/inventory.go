package serve

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeebo/xxh3"

	"crosstap/internal/collect/counter"
	"crosstap/internal/collect/enrich"
	"crosstap/internal/flow"
	"crosstap/internal/identity"
	"crosstap/internal/serve/api"
)

// inventory is what is known of machines, by the inventory file and by the platforms.
type inventory struct {
	mu        sync.Mutex
	state     *api.Inventory     // nil while nobody has told anything
	file      identity.Inventory // with its history
	platforms identity.Inventory // with its history
}

// lateInventory corrects stored rows by what the inventory knows now.
type lateInventory struct {
	now atomic.Pointer[inventoryVersion]
}

type inventoryVersion struct {
	book   identity.Book
	number uint64 // hash of what is known
}

func (l *lateInventory) set(book identity.Book, number uint64) {
	l.now.Store(&inventoryVersion{book, number | 1})
}

// fingerprint is a hash of what is known: the text of the file, and what platforms tell of the present. It is the same after a restart,
// when the history is another.
func fingerprint(path string, told *identity.Inventory) uint64 {
	h := xxh3.New()
	if path != "" {
		text, _ := os.ReadFile(path) // one that has just gone counts as empty: what replaces it will be told
		_, _ = h.Write(text)
	}
	for i := range told.VNICs {
		if v := told.VNICs[i]; v.ToNS == 0 {
			v.FromNS = 0
			fmt.Fprintf(h, "%+v\n", v)
		}
	}
	for i := range told.Hosts {
		if o := told.Hosts[i]; o.ToNS == 0 {
			fmt.Fprintf(h, "%s %v\n", o.Name, o.VTEPs)
		}
	}
	fmt.Fprintf(h, "%+v\n", told.Tenants)
	return h.Sum64()
}

// Version implements segment.Inventory.
func (l *lateInventory) Version() uint64 {
	if v := l.now.Load(); v != nil {
		return v.number
	}
	return 0
}

// Amend implements segment.Inventory.
func (l *lateInventory) Amend(r *flow.Record) bool {
	v := l.now.Load()
	return v != nil && enrich.Amend(r, v.book)
}

// loadInventory reads the file once, so that the first record already has names and a mistake ends the start.
func (s *Server) loadInventory() error {
	if s.cfg.Inventory == "" {
		return nil
	}
	inv, err := identity.Load(s.cfg.Inventory)
	if err != nil {
		return err
	}
	s.inventory.file = inv
	s.mergeInventory()
	return nil
}

// useInventory takes a new version of the file. A version with a mistake is reported, and the one before stays.
func (s *Server) useInventory(book identity.Book, err error) {
	s.inventory.mu.Lock()
	defer s.inventory.mu.Unlock()
	if err != nil {
		s.cfg.Log.Warn("inventory not taken, the one before stays", "err", err)
		s.inventory.set(s.cfg.Inventory, identity.Inventory{}, err)
		return
	}
	s.inventory.file = identity.Contents(book)
	s.mergeInventory()
}

// usePlatforms takes what the platforms tell. The file's word counts for more.
func (s *Server) usePlatforms(inv identity.Inventory) {
	s.inventory.mu.Lock()
	defer s.inventory.mu.Unlock()
	s.inventory.platforms = inv
	s.mergeInventory()
}

// mergeInventory gives everybody what is known now.
func (s *Server) mergeInventory() {
	inv := identity.Merge(s.inventory.file, s.inventory.platforms)
	book := identity.NewBook(inv)
	s.collector.SetInventory(book)
	s.late.set(book, fingerprint(s.cfg.Inventory, &s.inventory.platforms))
	s.counters.known.Store(counter.NewAdapters(book))
	from := s.cfg.Inventory
	switch {
	case from == "":
		from = "platforms"
	case len(s.inventory.platforms.VNICs)+len(s.inventory.platforms.Hosts) > 0:
		from += " and platforms"
	}
	s.inventory.set(from, inv, nil)
}

// set notes what is known for who asks. The caller holds the lock.
func (i *inventory) set(path string, inv identity.Inventory, err error) {
	if err != nil && i.state != nil {
		next := *i.state
		next.Error = err.Error()
		i.state = &next
		return
	}
	i.state = &api.Inventory{
		Path: path, LoadedAt: time.Now().UTC().Truncate(time.Millisecond),
		VNICs: len(inv.VNICs), Hosts: len(inv.Hosts), Observers: len(inv.Observers), Tenants: len(inv.Tenants),
	}
	if err != nil {
		i.state.Error = err.Error()
	}
}

func (i *inventory) get() *api.Inventory {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.state
}
