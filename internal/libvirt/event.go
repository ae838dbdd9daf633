package libvirt

import (
	"context"
	"fmt"
)

// EventKind tells what happened to a domain.
type EventKind uint8

// The kinds of events.
const (
	Lifecycle EventKind = iota + 1 // defined, started, migrated, stopped …: What and Detail
	DeviceAdded
	DeviceRemoved
)

// Lifecycle is the What of a lifecycle event (virDomainEventType).
const (
	Defined = iota
	Undefined
	Started
	Suspended
	Resumed
	Stopped
	ShutDown
	PMSuspended
	Crashed
)

// Details of Started, Suspended, Resumed and Stopped that tell of a migration.
const (
	StartedMigrated   = 1
	SuspendedMigrated = 1
	ResumedMigrated   = 1
	StoppedMigrated   = 3
)

// Event is something that happened to a domain.
type Event struct {
	Kind   EventKind
	Domain Domain
	What   int    // of Lifecycle
	Detail int    // of Lifecycle
	Device string // alias of the device that came or went
}

// Migrated reports whether the event is one end of a migration.
func (e Event) Migrated() bool {
	if e.Kind != Lifecycle {
		return false
	}
	switch e.What {
	case Started:
		return e.Detail == StartedMigrated
	case Suspended:
		return e.Detail == SuspendedMigrated
	case Resumed:
		return e.Detail == ResumedMigrated
	case Stopped:
		return e.Detail == StoppedMigrated
	}
	return false
}

// String gives the words of an event, such as "started (migrated)".
func (e Event) String() string {
	switch e.Kind {
	case DeviceAdded:
		return "device " + e.Device + " added"
	case DeviceRemoved:
		return "device " + e.Device + " removed"
	}
	words := [...]string{"defined", "undefined", "started", "suspended", "resumed", "stopped", "shut down", "suspended by itself", "crashed"}
	if e.What < 0 || e.What >= len(words) {
		return fmt.Sprintf("event %d", e.What)
	}
	if e.Migrated() {
		return words[e.What] + " (migrated)"
	}
	return words[e.What]
}

// Subscribe asks for the events of all domains. A daemon whose driver has no device events gives those of the lifecycle alone.
func (c *Conn) Subscribe(ctx context.Context) error {
	for _, id := range []uint32{eventIDLifecycle, eventIDAdded, eventIDRemoved} {
		var args encoder
		args.u32(id)
		args.u32(0) // of no domain in particular
		err := c.call(ctx, procRegisterEvent, args.b, func(d *decoder) { d.i32() })
		if err != nil && id == eventIDLifecycle {
			return fmt.Errorf("libvirt: events: %w", err)
		}
		if err != nil && c.Err() != nil {
			return err
		}
	}
	return nil
}

// event reads the payload of an event; false for one that nobody asked for.
func (d *decoder) event(procedure int32) (e Event, ok bool) {
	switch procedure {
	case procEventLifecycle:
		d.i32() // the subscription
		e = Event{Kind: Lifecycle, Domain: d.domain()}
		e.What, e.Detail = int(d.i32()), int(d.i32())
	case procEventAdded, procEventRemoved:
		d.i32()
		e = Event{Kind: DeviceAdded, Domain: d.domain(), Device: d.str()}
		if procedure == procEventRemoved {
			e.Kind = DeviceRemoved
		}
	default:
		return e, false
	}
	if err := d.end(); err != nil {
		d.fail(fmt.Errorf("event %d: %w", procedure, err))
		return e, false
	}
	return e, true
}
