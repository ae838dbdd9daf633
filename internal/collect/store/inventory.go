package store

import "crosstap/internal/flow"

// Inventory corrects stored rows by what became known of machines after they came. Implementations are safe for concurrent use.
type Inventory interface {
	// Version differs whenever something else is known, also after a restart; 0 says that nothing is known.
	Version() uint64
	// Amend brings what a record says of its segment, tenants, machines and hosts to what is known now of the time of the flow, and
	// reports whether that changed it. The record has no counters.
	Amend(r *flow.Record) bool
}
