// Package platform holds the words that the control line and the rooms below it (ovs, linux, libvirt, vsphere) speak with each
// other: what there is (Update, Snapshot), what shall be (Session), and how it is made so (Step).
//
// A platform is whatever one address controls: one Open vSwitch database, one Linux kernel, one vCenter with all its hosts. The
// planner decides which sessions there shall be and never knows how a platform makes them; a platform turns the difference between
// the sessions that shall be and the objects that are there into steps, and never decides what is to be seen.
//
// Ownership: every object that a platform makes carries a Mark. An object without a mark of this owner is foreign: it is told in
// the inventory, planned around, and never changed.
package platform

import (
	"context"
	"time"
)

// Platform is one control plane.
//
// Names and Kind are constants. Watch and Read may run beside everything else; the control line calls Steps, Apply and Undo of one
// platform from one goroutine at a time, those of an Independent one of each host.
type Platform interface {
	// Name is the name of the Platform resource, such as "kvm-04" or "vcenter". It is unique in one control line.
	Name() string
	// Kind is the room: "ovs", "linux", "libvirt", "vsphere", "agent".
	Kind() string

	// Watch tells the inventory and follows it until ctx ends; then it returns nil. The first update is Whole, and so is the first
	// after a broken connection. update is called from one goroutine and may take long: what comes meanwhile is folded together.
	// Watch connects again by itself and tells Update.Lost when it cannot; it returns an error only for what no new attempt mends,
	// such as a wrong password or a missing table.
	Watch(ctx context.Context, update func(Update)) error

	// Read returns the present inventory, read from the platform and not from a copy.
	Read(ctx context.Context) (*Snapshot, error)

	// Steps returns what is to be done so that exactly the sessions of want exist of those that carry its owner's mark: objects of
	// this owner which no session accounts for are removed, except those of the policies in Keep and what they need. now is a
	// snapshot of this platform. The order is that of Apply: by Phase, then as returned. A session that this platform cannot make
	// is refused, and objects that exist for it stay as they are. Steps touches nothing, and the same arguments give the same
	// steps; the state that is already right gives none.
	Steps(now *Snapshot, want Want) ([]Step, []Refusal)

	// Apply does one step, reads back what it did and returns when the platform confirms it. A step that is already done is no
	// error. Before it changes anything it checks that what the step was planned on still holds: ErrChanged says that it does not,
	// and that nothing was done.
	Apply(ctx context.Context, s Step) error

	// Undo brings back what was there before the step (Step.Before). A step that was never done, or is undone, is no error.
	Undo(ctx context.Context, s Step) error

	// Counters returns what the owner's sessions have copied so far, by Mark.Key. A session that the platform cannot count is
	// missing in the answer.
	Counters(ctx context.Context, owner string) (map[string]Counter, error)
}

// Want is what shall be on one platform.
type Want struct {
	Owner    string
	Sessions []Session // of this platform
	// Keep names policies of this owner that the control line does not know, or that it refuses now: their objects stay as they are. An
	// Independent platform is also told of single sessions, by Mark.Key.
	Keep map[string]bool
}

// Update is a change of the inventory. Records replace those of the same ID.
type Update struct {
	AtNS     int64 // when it was so
	Whole    bool  // everything there is: what is not named is gone
	Lost     error // no connection: what is known may be old. nil when there is one
	Hosts    []Host
	Switches []Switch
	VMs      []VM
	Ports    []Port
	Objects  []Object
	Gone     []Ref // removed
}

// Ref names one record of an inventory.
type Ref struct {
	Kind RefKind `json:"kind"`
	ID   string  `json:"id"`
}

// RefKind is the list that a Ref points into.
type RefKind uint8

// The kinds of records.
const (
	RefHost RefKind = iota + 1
	RefSwitch
	RefVM
	RefPort
	RefObject
)

// Counter is what a session has copied since it was made.
type Counter struct {
	Packets uint64    `json:"packets"`
	Bytes   uint64    `json:"bytes"` // layer 2, without the outer headers of a tunnel
	Drops   uint64    `json:"drops"` // copies that could not leave
	At      time.Time `json:"at"`
}

// Independent is a Platform of many hosts each of which does its steps by itself: steps of different hosts may be applied at the same time,
// and when one fails the others stay as they are.
type Independent interface {
	Independent()
}

// Maker is a Platform that makes many objects in hardly more time than one.
type Maker interface {
	// Make does steps of PhasePrepare and PhaseSwitch in their order, as Apply does each of them, and returns how many are done. Its error,
	// one of Apply's, is about those after them.
	Make(ctx context.Context, steps []Step) (done int, err error)
}

// Ender is a Platform on which many objects end as quickly as one.
type Ender interface {
	// End does steps that remove objects (Remove in PhaseCleanup), all of them or none: a Step for what they have in common. It reads back
	// what it did and returns when the platform confirms it. Its errors are those of Apply, and Undo takes back each of the steps.
	End(ctx context.Context, steps []Step) error
}

// Prober is a Platform that tells before planning what its account may not do.
type Prober interface {
	// Missing returns the privileges that a method needs on a switch or host and the account lacks, with the platform's names,
	// such as "DVSwitch.Vspan on switch dvs1".
	Missing(ctx context.Context, m Method, hostOrSwitch string) ([]string, error)
}

// Auditor is a Platform that knows who changed an object that is not as we left it.
type Auditor interface {
	// ChangedBy returns the user and the time of the last change of an object; "" when the platform does not tell.
	ChangedBy(ctx context.Context, object string) (user string, at time.Time, err error)
}

// Gap is what passed a port that came while its copies were wanted, before they began: what a tool has missed of a machine that moved.
type Gap struct {
	Platform string        `json:"platform"`
	Policy   string        `json:"policy,omitempty"`
	VM       string        `json:"vm,omitempty"`
	Port     string        `json:"port"`
	At       time.Time     `json:"at"`
	After    time.Duration `json:"after_ns"`      // from when the platform told of the port until its copies had begun
	Packets  int64         `json:"packets"`       // that were not copied in the directions of the tap, at most; -1 when nobody counts them
	Least    int64         `json:"packets_least"` // at least; the same as Packets when their number is known
	Why      string        `json:"why,omitempty"` // nobody counts them, or why their number is not known, and what the operator can do
}

// Exact reports whether the number of packets is known.
func (g *Gap) Exact() bool { return g.Packets >= 0 && g.Least == g.Packets }

// Gapper is a Platform that measures gaps.
type Gapper interface {
	// OnGap has f called with each gap, from any goroutine. It is called once, before Watch.
	OnGap(f func(Gap))
}
