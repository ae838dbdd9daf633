package serve

import (
	"sync"
	"time"

	"crosstap/internal/identity"
	"crosstap/internal/serve/api"
)

// inventory is what is known of the inventory file.
type inventory struct {
	mu    sync.Mutex
	state *api.Inventory // nil without a file
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
