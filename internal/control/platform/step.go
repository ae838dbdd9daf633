package platform

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"strings"
)

// Phase orders the steps of a plan: copies begin before old ones end, and what carried them goes last.
type Phase uint8

// The phases.
const (
	PhasePrepare Phase = iota + 1 // what a session needs: output ports, filter bridges, port groups, capture VMs
	PhaseSwitch                   // sessions begin or change
	PhaseCleanup                  // sessions and what they needed end
)

// Action is what a step does to its object.
type Action string

// The actions.
const (
	Create Action = "create"
	Change Action = "change"
	Remove Action = "remove"
)

// Step is one change on a platform, all or nothing. It is kept as JSON in the journal, so that whoever finds it after a crash can do
// it again or undo it.
type Step struct {
	Platform string `json:"platform"`
	Host     string `json:"host,omitempty"` // ID
	Switch   string `json:"switch,omitempty"`
	Policy   string `json:"policy"`
	Session  string `json:"session"` // Mark.Key
	Phase    Phase  `json:"phase"`
	Action   Action `json:"action"`
	Object   string `json:"object"`  // kind and name, such as "Mirror crosstap-web"
	Summary  string `json:"summary"` // for people, such as "mirror vnet3, vnet7 > gre 10.0.0.9"
	// Commands are what a person would type for the same effect, one command each, complete and quoted for a shell.
	Commands []string `json:"commands"`
	// Why tells which fields differ, for a change, and what the difference is; and how the platform takes the packets, where it chooses among ways.
	Why string `json:"why,omitempty"`
	// Before is what was there, in the platform's own form; null when nothing was. Undo brings it back.
	Before json.RawMessage `json:"before,omitempty"`
	// Do is what the step makes, in the platform's own form. Apply reads it and nothing else of the step.
	Do json.RawMessage `json:"do"`
}

// SortSteps brings steps into the order in which they are applied.
func SortSteps(steps []Step) {
	slices.SortStableFunc(steps, func(a, b Step) int { return cmp.Compare(a.Phase, b.Phase) })
}

// Errors of Apply and Undo. Platforms wrap them with the names of host, object and port.
var (
	// ErrChanged: somebody changed what the step was planned on. Nothing was done; a new plan helps.
	ErrChanged = errors.New("changed since the plan was made")
	// ErrGone: the port, switch or host is no longer there.
	ErrGone = errors.New("is gone")
	// ErrDenied: the account may not do this. The text names the privilege.
	ErrDenied = errors.New("not allowed")
	// ErrUnreachable: the platform does not answer. Whether the step was done is not known.
	ErrUnreachable = errors.New("does not answer")
)

// Refusal is something that a policy asks for and does not get, with the reason and the way out.
type Refusal struct {
	Policy  string `json:"policy"`
	Host    string `json:"host,omitempty"` // names, for people
	Switch  string `json:"switch,omitempty"`
	Port    string `json:"port,omitempty"`
	VM      string `json:"vm,omitempty"`
	Reason  Reason `json:"reason"`
	Message string `json:"message"`       // which thing, and why, with the numbers
	Fix     string `json:"fix,omitempty"` // what the operator can do
	// Kept says that copies which an earlier form of the policy has begun go on as they are.
	Kept bool `json:"kept,omitempty"`
}

// Keeps notes that copies which exist go on, and says so.
func (r *Refusal) Keeps() {
	r.Kept = true
	r.Fix = strings.TrimPrefix(r.Fix+"; until then the copies that exist go on as they are", "; ")
}

// Reason is a fixed word for why something is refused.
type Reason string

// The reasons.
const (
	ReasonKernelPort  Reason = "kernel-port"        // vmkernel, management: the host's own traffic, perhaps the copies themselves
	ReasonUplink      Reason = "uplink"             // not a source on this platform
	ReasonMirrorPort  Reason = "mirror-port"        // carries copies
	ReasonLoop        Reason = "loop"               // copies would be copied again
	ReasonDestination Reason = "destination-tapped" // the tool's own VM would be a source
	ReasonPromiscuous Reason = "promiscuous"        // widens who can see; the policy does not acknowledge it
	ReasonTenant      Reason = "foreign-tenant"     // port of a tenant that the policy's owner does not have
	ReasonConflict    Reason = "conflict"           // a foreign session or a single slot that another owner has
	ReasonCapability  Reason = "capability"         // the switch cannot do it
	ReasonPrivilege   Reason = "privilege"          // the account may not do it
	ReasonBudget      Reason = "budget"             // would cost more than the policy allows
	ReasonMTU         Reason = "mtu"                // copies do not fit the path
	ReasonLimit       Reason = "limit"              // no session left on the switch
	ReasonNoMatch     Reason = "no-match"           // the selector finds nothing
	ReasonDown        Reason = "unreachable"        // host or platform does not answer
	ReasonNoMAC       Reason = "ambiguous"          // exactly once cannot be kept: two ports have one address, or none is known
	ReasonExpired     Reason = "expired"
)

// MustJSON writes what a step does or was before it, in a platform's own plain types: they always can be written.
func MustJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
