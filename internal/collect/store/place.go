package store

import (
	"context"

	"crosstap/internal/flow"
)

// Place is where records stand in a stream that can be read again: a message of a bus.
type Place struct {
	Stream string // its name, with what tells it from another one of the same name
	Seq    uint64 // rising
	ID     string // of the message, the same when its sender sent it twice; "" for none
	Again  bool   // it was given to a store before, and nobody knows what became of it
}

// Placer stores the records of a place once, however often it is given them.
type Placer interface {
	// AppendPlaced stores the records of a place unless that was done before. When the store is Ordered the records are durable when
	// a later Flush returns, otherwise when AppendPlaced does.
	AppendPlaced(ctx context.Context, recs []flow.Record, p Place) error
	// Ordered reports whether places of a stream must come in ascending order, from one writer: what is not after Position was stored.
	Ordered() bool
	// Position is the last place of a stream that is durable, 0 for none.
	Position(stream string) uint64
}
