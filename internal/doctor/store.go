package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"crosstap/internal/identity"
)

// store looks at the store directory and the inventory without changing either.
func (r *report) store() {
	if r.opt.Data != "" {
		r.dataDir(r.opt.Data)
	}
	if r.opt.Inventory != "" {
		inv, err := identity.Load(r.opt.Inventory)
		if err != nil {
			r.missing("store", "inventory", err.Error(), "names of VMs and tenants", "correct the file; the place is in the message", "serve")
			return
		}
		r.ok("store", "inventory", fmt.Sprintf("%d adapters, %d hosts, %d tenants, %d observers", len(inv.VNICs), len(inv.Hosts), len(inv.Tenants), len(inv.Observers)), "names of VMs and tenants")
	}
}

func (r *report) dataDir(dir string) {
	const use = "storing flows"
	existing := dir
	for {
		if _, err := os.Stat(existing); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		existing = filepath.Dir(existing)
	}
	f, err := os.CreateTemp(existing, ".doctor-*")
	if err != nil {
		r.missing("store", dir, "cannot write: "+cause(err), use, "choose another directory with --data, or run as its owner", "serve")
		return
	}
	_ = f.Close()
	if err := os.Remove(f.Name()); err != nil {
		r.missing("store", dir, "cannot remove a file: "+cause(err), use, "look at the rights of the directory", "serve")
		return
	}
	free, known := freeBytes(existing)
	switch {
	case known && free < 1<<30:
		r.missing("store", dir, fmt.Sprintf("%d MB free", free/1e6), use, "make room, or bound the store with --keep-size")
	case known:
		r.ok("store", dir, fmt.Sprintf("writable, %.1f GB free", float64(free)/1e9), use)
	default:
		r.ok("store", dir, "writable", use)
	}
}
