package store

import "context"

// Uncertain is what the election of canonical rows leaves open. Where one observer lost records another one's rows fill the gap, and count whole or not at all: the
// packets of such rows that are counted twice, or left out, each row's spread evenly over its time.
type Uncertain struct {
	Rows    uint64 `json:"rows"`
	Packets uint64 `json:"packets"`
	Octets  uint64 `json:"octets"`
}

// Add adds another sum.
func (u *Uncertain) Add(o Uncertain) {
	u.Rows, u.Packets, u.Octets = u.Rows+o.Rows, u.Packets+o.Packets, u.Octets+o.Octets
}

// UncertainView is a View that knows this of settled hours. An hour counts whole when it touches the range.
type UncertainView interface {
	Uncertain(ctx context.Context, fromNS, toNS int64) (Uncertain, error)
}
