// Package agentapi is what an agent and its server say to each other: JSON over HTTP, so that it passes proxies. The agent asks, the
// server answers; a question for new taps waits at the server until there are some.
//
//	POST register   Registration → Welcome
//	GET  taps       → Orders, when they differ from what the agent has; else 204 after the wait
//	POST report     Report → Receipt
//
// Every request carries a token (Authorization: Bearer).
package agentapi

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"crosstap/internal/ledger"
	"crosstap/internal/route"
	"crosstap/internal/tapspec"
)

// Base is where the paths begin, below the server's URL.
const Base = "/agent/v1/"

// Version of the conversation. A server refuses an agent that speaks a newer one.
const Version = 1

// Roles of tokens.
const (
	RoleAgent    = "agent"         // may register an agent that copies flow records and headers
	RolePayload  = "agent-payload" // may register one that copies payload, too
	RoleOperator = "operator"      // may give taps to agents
)

// Roles lists them.
func Roles() []string { return []string{RoleAgent, RolePayload, RoleOperator} }

// Registration says who an agent is.
type Registration struct {
	Version    int          `json:"version"`
	Name       string       `json:"name"`     // of the agent, unique at its server; the host's name unless told otherwise
	Instance   string       `json:"instance"` // random, kept over restarts: tells two hosts of one name apart
	Host       string       `json:"host"`
	Software   string       `json:"software"`
	System     string       `json:"system"`
	Payload    bool         `json:"payload"` // whether the host's owner lets the agent copy payload at all
	Budget     string       `json:"budget"`  // of the host, "" for none
	Interfaces []Interface  `json:"interfaces"`
	Routing    *route.Table `json:"routing,omitempty"` // none when it is not known
}

// Interface is one that an agent can tap.
type Interface struct {
	Name      string   `json:"name"`
	Index     int      `json:"index"`
	MAC       string   `json:"mac"`
	MTU       int      `json:"mtu"`
	Kind      string   `json:"kind"` // of link: device, veth, bridge, tun, vxlan …
	Up        bool     `json:"up"`
	Master    string   `json:"master"` // bridge or bond that it is a port of
	Addresses []string `json:"addresses"`
	Alias     string   `json:"alias"`
}

// Welcome is what a server answers.
type Welcome struct {
	Name     string           `json:"name"`
	Payload  bool             `json:"payload"`  // taps that copy payload are allowed
	Lease    tapspec.Duration `json:"lease"`    // how long taps go on without the server, unless they say otherwise
	Interval tapspec.Duration `json:"interval"` // between reports
	Wait     tapspec.Duration `json:"wait"`     // how long a question for taps waits at the server
}

// Orders are all taps that an agent shall run.
type Orders struct {
	Revision string         `json:"revision"`
	Taps     []tapspec.Spec `json:"taps"`
}

// Report says how an agent and its taps are.
type Report struct {
	Name       string       `json:"name"`
	Instance   string       `json:"instance"`
	Revision   string       `json:"revision"` // of the orders that it follows
	Time       time.Time    `json:"time"`
	Started    time.Time    `json:"started"`
	CPU        float64      `json:"cpu"` // processors, since the last report
	Resident   int64        `json:"resident_bytes"`
	Interfaces []Interface  `json:"interfaces,omitempty"` // when they or the routing have changed
	Routing    *route.Table `json:"routing,omitempty"`    // with the interfaces
	Taps       []Tap        `json:"taps"`
	Findings   []string     `json:"findings,omitempty"` // what an operator should know
}

// States of a tap.
const (
	StateRunning = "running"
	StateFailed  = "failed"  // Error says why; it is tried again
	StateRefused = "refused" // Error says why; it is not
	StateEnded   = "ended"   // its TTL is over
)

// Tap says how one tap is.
type Tap struct {
	Name     string             `json:"name"`
	Digest   string             `json:"digest"` // of the spec
	State    string             `json:"state"`
	Error    string             `json:"error,omitempty"`
	Since    time.Time          `json:"since"`
	Gap      tapspec.Duration   `json:"gap,omitempty"` // in which nothing was captured, when it took another's place
	Level    string             `json:"level"`         // of the governor
	Steps    []Step             `json:"steps,omitempty"`
	Counts   map[string]uint64  `json:"level_counts,omitempty"` // steps to each level
	CPU      float64            `json:"cpu"`
	Memory   float64            `json:"memory_bytes"`
	Mirror   float64            `json:"mirror_bits_per_second"`
	Frames   float64            `json:"frames_per_second"` // offered to it
	Books    []ledger.Statement `json:"books"`
	To       []Destination      `json:"to"`
	Warnings []string           `json:"warnings,omitempty"`
	Path     string             `json:"path,omitempty"`        // how frames of interfaces are taken: ring, tcx or clsact
	PathWhy  string             `json:"path_reason,omitempty"` // and why
	Inline   *Inline            `json:"inline,omitempty"`      // for a tap of an inline pair
}

// Inline says how an inline pair is. What has two parts is of A and of B.
type Inline struct {
	A         string    `json:"a"`
	B         string    `json:"b"`
	Fail      string    `json:"fail"` // open or closed
	Up        [2]bool   `json:"up"`
	Held      string    `json:"held,omitempty"` // interface that is held down since the other one has no signal
	Frames    [2]uint64 `json:"frames"`         // that came in by it and left by the other one
	Segments  [2]uint64 `json:"segments"`
	Bytes     [2]uint64 `json:"bytes"`
	Lost      uint64    `json:"lost"`
	Refused   uint64    `json:"refused"`   // by the interface that they were to leave by
	Closed    uint64    `json:"closed"`    // since the lease had ended
	Unwatched uint64    `json:"unwatched"` // passed on while nobody renewed the lease
	Host      uint64    `json:"host"`      // of the host itself, held back
}

// Step is a change of the governor's level.
type Step struct {
	Time time.Time `json:"time"`
	From string    `json:"from"`
	To   string    `json:"to"`
	Why  string    `json:"why"`
}

// Destination says how a destination of a tap is.
type Destination struct {
	URL    string `json:"url"`
	Unit   string `json:"unit"`
	Sent   uint64 `json:"sent"`
	Queued int64  `json:"queued"`
	Shed   uint64 `json:"shed"`   // did not find room, or is beyond the budget
	Errors uint64 `json:"errors"` // could not be sent or written

	// The last error, with its time, and since when it goes well again: nil while it does not.
	Error     string     `json:"error,omitempty"`
	ErrorAt   *time.Time `json:"error_at,omitempty"`
	Recovered *time.Time `json:"recovered,omitempty"`
}

// Failing reports whether the destination takes nothing at present.
func (d *Destination) Failing() bool { return d.Error != "" && d.Recovered == nil }

// Receipt answers a report. Register says that the server does not know the agent: it has to register again.
type Receipt struct {
	Register bool `json:"register"`
}

// ErrToken says that a text is no token.
var ErrToken = errors.New("no token: want crosstap1.ID.SECRET, as crosstap token create prints it")

// Token is what a token's text says.
type Token struct {
	ID, Secret string
	Pin        string // of the server's authority: the SHA-256 of its public key, in base64 for URLs; "" for none
}

const tokenPrefix = "crosstap1"

// String writes the token.
func (t Token) String() string {
	s := tokenPrefix + "." + t.ID + "." + t.Secret
	if t.Pin != "" {
		s += "." + t.Pin
	}
	return s
}

// Bearer is the part that the server is shown.
func (t Token) Bearer() string { return tokenPrefix + "." + t.ID + "." + t.Secret }

// ParseToken reads a token. Space around it, and lines that begin with #, do not count.
func ParseToken(text string) (Token, error) {
	var line string
	for l := range strings.Lines(text) {
		if l = strings.TrimSpace(l); l == "" || strings.HasPrefix(l, "#") {
			continue
		}
		if line != "" {
			return Token{}, fmt.Errorf("%w; there are several lines", ErrToken)
		}
		line = l
	}
	parts := strings.Split(line, ".")
	if len(parts) < 3 || len(parts) > 4 || parts[0] != tokenPrefix || parts[1] == "" || parts[2] == "" {
		return Token{}, ErrToken
	}
	t := Token{ID: parts[1], Secret: parts[2]}
	if len(parts) == 4 {
		t.Pin = parts[3]
	}
	return t, nil
}
