package platform

import (
	"cmp"
	"maps"
	"slices"
)

// Snapshot is the inventory of one platform at one moment. It is never changed once it is made: readers share it.
type Snapshot struct {
	Platform string
	AtNS     int64
	Lost     error // as in Update
	Hosts    map[string]*Host
	Switches map[string]*Switch
	VMs      map[string]*VM
	Ports    map[string]*Port
	Objects  map[string]*Object
}

// NewSnapshot returns a snapshot without anything in it.
func NewSnapshot(platform string) *Snapshot {
	return &Snapshot{
		Platform: platform, Hosts: map[string]*Host{}, Switches: map[string]*Switch{}, VMs: map[string]*VM{}, Ports: map[string]*Port{},
		Objects: map[string]*Object{},
	}
}

// Sorted returns the records of a list by ID.
func Sorted[T any](records map[string]*T) []*T {
	out := make([]*T, 0, len(records))
	for _, id := range slices.Sorted(maps.Keys(records)) {
		out = append(out, records[id])
	}
	return out
}

// Inventory follows updates. It is for one goroutine; the snapshots that it gives away are for all.
type Inventory struct {
	now    *Snapshot
	shared bool // now has been given away: the next update begins with a copy
}

// NewInventory returns the inventory of a platform before its first update.
func NewInventory(platform string) *Inventory { return &Inventory{now: NewSnapshot(platform)} }

// Snapshot returns the present state. It costs nothing until the next update.
func (i *Inventory) Snapshot() *Snapshot {
	i.shared = true
	return i.now
}

// Apply brings the inventory to the state after an update, whose records it keeps.
func (i *Inventory) Apply(u Update) {
	switch {
	case u.Whole:
		i.now = NewSnapshot(i.now.Platform)
	case i.shared:
		s := *i.now
		s.Hosts, s.Switches, s.VMs = maps.Clone(s.Hosts), maps.Clone(s.Switches), maps.Clone(s.VMs)
		s.Ports, s.Objects = maps.Clone(s.Ports), maps.Clone(s.Objects)
		i.now = &s
	}
	i.shared = false
	s := i.now
	s.AtNS, s.Lost = cmp.Or(u.AtNS, s.AtNS), u.Lost
	put(s.Hosts, u.Hosts, func(h *Host) string { return h.ID })
	put(s.Switches, u.Switches, func(w *Switch) string { return w.ID })
	put(s.VMs, u.VMs, func(v *VM) string { return v.ID })
	put(s.Ports, u.Ports, func(p *Port) string { return p.ID })
	put(s.Objects, u.Objects, func(o *Object) string { return o.ID })
	for _, r := range u.Gone {
		switch r.Kind {
		case RefHost:
			delete(s.Hosts, r.ID)
		case RefSwitch:
			delete(s.Switches, r.ID)
		case RefVM:
			delete(s.VMs, r.ID)
		case RefPort:
			delete(s.Ports, r.ID)
		case RefObject:
			delete(s.Objects, r.ID)
		}
	}
}

func put[T any](to map[string]*T, records []T, id func(*T) string) {
	for i := range records {
		to[id(&records[i])] = &records[i]
	}
}
