package platform

import (
	"maps"
	"reflect"
	"slices"
)

// Difference tells how one snapshot becomes another; without an old one, everything. Counters of ports count only when they are asked for.
func Difference(old, now *Snapshot, counters bool) Update {
	u := Update{AtNS: now.AtNS, Lost: now.Lost}
	if old == nil {
		u.Whole, old = true, NewSnapshot(now.Platform)
	}
	same := samePort
	if counters {
		same = equal[Port]
	}
	u.Hosts = changes(&u, RefHost, old.Hosts, now.Hosts, equal)
	u.Switches = changes(&u, RefSwitch, old.Switches, now.Switches, equal)
	u.VMs = changes(&u, RefVM, old.VMs, now.VMs, equal)
	u.Ports = changes(&u, RefPort, old.Ports, now.Ports, same)
	u.Objects = changes(&u, RefObject, old.Objects, now.Objects, equal)
	return u
}

// Empty reports whether an update says nothing but the time.
func (u *Update) Empty() bool {
	return !u.Whole && u.Lost == nil && len(u.Hosts)+len(u.Switches)+len(u.VMs)+len(u.Ports)+len(u.Objects)+len(u.Gone) == 0
}

func equal[T any](a, b *T) bool { return reflect.DeepEqual(a, b) }

// samePort reports whether two ports differ in counters at most.
func samePort(a, b *Port) bool {
	x, y := *a, *b
	x.RxBytes, x.TxBytes, y.RxBytes, y.TxBytes = 0, 0, 0, 0
	return reflect.DeepEqual(&x, &y)
}

// changes lists the records that are new or not as they were, and notes those that are gone.
func changes[T any](u *Update, kind RefKind, old, now map[string]*T, same func(a, b *T) bool) (out []T) {
	for _, id := range slices.Sorted(maps.Keys(now)) {
		if was := old[id]; was == nil || !same(was, now[id]) {
			out = append(out, *now[id])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(old)) {
		if now[id] == nil {
			u.Gone = append(u.Gone, Ref{Kind: kind, ID: id})
		}
	}
	return out
}
