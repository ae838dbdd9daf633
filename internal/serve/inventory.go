package serve

import (
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeebo/xxh3"

	"crosstap/internal/collect/enrich"
	"crosstap/internal/flow"
	"crosstap/internal/identity"
	"crosstap/internal/serve/api"
)

// inventory is what is known of the inventory file.
type inventory struct {
	mu    sync.Mutex
	state *api.Inventory // nil without a file
}

// lateInventory corrects stored rows by what the inventory knows now.
type lateInventory struct {
	now atomic.Pointer[inventoryVersion]
}

type inventoryVersion struct {
	book   identity.Book
	number uint64 // hash of the file
}

func (l *lateInventory) set(path string, book identity.Book) {
	text, err := os.ReadFile(path)
	if err != nil { // it was there a moment ago; what replaces it will be told
		return
	}
	l.now.Store(&inventoryVersion{book, xxh3.Hash(text) | 1})
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
	book := identity.NewBook(inv)
	s.collector.SetInventory(book)
	s.late.set(s.cfg.Inventory, book)
	s.counters.setInventory(book, inv.VNICs)
	s.inventory.set(s.cfg.Inventory, inv, nil)
	return nil
}

// useInventory takes a new version of the file. A version with a mistake is reported, and the one before stays.
func (s *Server) useInventory(book identity.Book, err error) {
	if err != nil {
		s.cfg.Log.Warn("inventory not taken, the one before stays", "err", err)
		s.inventory.set(s.cfg.Inventory, identity.Inventory{}, err)
		return
	}
	s.collector.SetInventory(book)
	s.late.set(s.cfg.Inventory, book)
	inv, err := identity.Load(s.cfg.Inventory) // for the counts and the ports; the book hides them
	s.counters.setInventory(book, inv.VNICs)
	s.inventory.set(s.cfg.Inventory, inv, err)
}

func (i *inventory) set(path string, inv identity.Inventory, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
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
