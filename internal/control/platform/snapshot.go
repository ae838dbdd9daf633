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
	now   *Snapshot
	given *Snapshot // what Snapshot returns until the next update; nil when there was one
	// Lists of now that were given away: whoever changes one makes a copy of it first, and of that list alone.
	hosts, switches, vms, ports, objects bool
}

// NewInventory returns the inventory of a platform before its first update.
func NewInventory(platform string) *Inventory { return &Inventory{now: NewSnapshot(platform)} }

// Snapshot returns the present state, the same one until the next update.
func (i *Inventory) Snapshot() *Snapshot {
	if i.given == nil {
		s := *i.now
		i.given = &s
		i.hosts, i.switches, i.vms, i.ports, i.objects = true, true, true, true, true
	}
	return i.given
}

// Comes reports whether an update tells of a machine's port that was not there before.
func (i *Inventory) Comes(u *Update) bool {
	return slices.ContainsFunc(u.Ports, func(p Port) bool { return p.Kind == PortVM && i.now.Ports[p.ID] == nil })
}

// Apply brings the inventory to the state after an update, whose records it keeps. It reports whether anything but counters of ports and the
// time is another than before. It takes time for what changes, not for what there is.
func (i *Inventory) Apply(u Update) (changed bool) {
	s := i.now
	i.given = nil
	changed = (s.Lost == nil) != (u.Lost == nil)
	s.AtNS, s.Lost = cmp.Or(u.AtNS, s.AtNS), u.Lost
	gone := map[RefKind][]string{}
	for _, r := range u.Gone {
		gone[r.Kind] = append(gone[r.Kind], r.ID)
	}
	one := func(c bool) { changed = changed || c }
	one(put(&s.Hosts, &i.hosts, u.Whole, u.Hosts, gone[RefHost], func(h *Host) string { return h.ID }, equal))
	one(put(&s.Switches, &i.switches, u.Whole, u.Switches, gone[RefSwitch], func(w *Switch) string { return w.ID }, equal))
	one(put(&s.VMs, &i.vms, u.Whole, u.VMs, gone[RefVM], func(v *VM) string { return v.ID }, equal))
	one(put(&s.Ports, &i.ports, u.Whole, u.Ports, gone[RefPort], func(p *Port) string { return p.ID }, samePort))
	one(put(&s.Objects, &i.objects, u.Whole, u.Objects, gone[RefObject], func(o *Object) string { return o.ID }, equal))
	return changed
}

// put brings one list up to date, and reports whether a record is another than before by same.
func put[T any](list *map[string]*T, shared *bool, whole bool, records []T, gone []string, id func(*T) string, same func(a, b *T) bool) (changed bool) {
	old := *list
	switch {
	case whole:
		*list, *shared = make(map[string]*T, len(records)), false
	case len(records)+len(gone) == 0:
		return false
	case *shared:
		*list, *shared = maps.Clone(old), false
	}
	for n := range records {
		r := &records[n]
		was := old[id(r)]
		changed = changed || was == nil || !same(was, r)
		(*list)[id(r)] = r
	}
	for _, g := range gone {
		changed = changed || old[g] != nil
		delete(*list, g)
	}
	return changed || whole && len(*list) != len(old)
}
