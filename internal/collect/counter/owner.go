package counter

import "crosstap/internal/identity"

// Adapters finds whose adapters are counted: at ports of virtual switches that an inventory knows. Uplinks and other interfaces are nobody's.
type Adapters struct {
	book   identity.Book
	byPort map[string][]*identity.VNIC
}

// NewAdapters takes what a Book knows.
func NewAdapters(book identity.Book) *Adapters {
	all := identity.Contents(book).VNICs
	a := &Adapters{book: book, byPort: make(map[string][]*identity.VNIC, len(all))}
	for i := range all {
		if v := &all[i]; v.Port != "" {
			a.byPort[v.Port] = append(a.byPort[v.Port], v)
		}
	}
	return a
}

// Host is where an agent runs, "" when the inventory does not say.
func (a *Adapters) Host(k Key, atNS int64) string {
	if h := a.book.HostByVTEP(k.Agent, atNS); h != nil {
		return h.Name
	}
	if o := a.book.ObserverOf(k.Agent, k.Domain, 0, atNS); o != nil {
		return o.Host
	}
	return ""
}

// Adapter finds the adapter behind a port of a host. Where the host is not known, the port's name must be that of one adapter only.
func (a *Adapters) Adapter(host, port string, atNS int64) (found *identity.VNIC) {
	if port == "" {
		return nil
	}
	for _, v := range a.byPort[port] {
		if !v.Contains(atNS) || host != "" && v.Host != host {
			continue
		}
		if found != nil {
			return nil
		}
		found = v
	}
	return found
}
