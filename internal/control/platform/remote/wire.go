// Package remote is a platform that a process on another machine has: the kernel of a host that is reached by ssh and nothing else.
//
// Both ends are crosstap. The near end starts "crosstap platform" on the host, through ssh, and speaks with it over its input and
// output; the far end reads and changes its kernel as it would for a control line of its own. So each step is one system call there, the
// kernel's notices are followed there, and nothing of it is lost in the output of tools (docs/adr/0038-kernels-behind-ssh.md).
//
// A message is one line of JSON. The far end begins with a greeting; then the near end calls and the far end answers, in any order. Gaps
// are told without being asked for. What a login shell prints before the greeting is passed over.
package remote

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"

	"crosstap/internal/control/platform"
)

// greeting is what the far end says first. Another number is another language.
const greeting = "crosstap platform 1"

// Limits of a message and of what may come before the greeting.
const (
	maxMessage = 64 << 20
	maxChatter = 64 << 10
)

// methods of a call.
const (
	methodOpen     = "open"     // Resource
	methodRead     = "read"     // > snapshot
	methodWatch    = "watch"    // begins anew; > the first update
	methodNext     = "next"     // > the next update, when there is one
	methodSteps    = "steps"    // stepsIn > stepsOut
	methodApply    = "apply"    // platform.Step
	methodUndo     = "undo"     // platform.Step
	methodCounters = "counters" // owner > map
	methodGap      = "gap"      // platform.Gap, from the far end
)

// message is a call, an answer, or a gap.
type message struct {
	ID     uint32          `json:"id,omitempty"`
	Method string          `json:"method,omitempty"`
	Body   json.RawMessage `json:"body,omitempty"`
	Error  *failure        `json:"error,omitempty"`
}

// failure is an error with what a control line decides on.
type failure struct {
	Text string `json:"text"`
	Kind string `json:"kind,omitempty"`
}

var kinds = map[string]error{
	"changed": platform.ErrChanged, "gone": platform.ErrGone, "denied": platform.ErrDenied, "unreachable": platform.ErrUnreachable,
}

func failureOf(err error) *failure {
	if err == nil {
		return nil
	}
	f := &failure{Text: err.Error()}
	for word, kind := range kinds {
		if errors.Is(err, kind) {
			f.Kind = word
		}
	}
	return f
}

// Error implements error.
func (f *failure) Error() string { return f.Text }

// Unwrap returns what the far end's error was, nil when that does not matter.
func (f *failure) Unwrap() error { return kinds[f.Kind] }

// Resource is the platform that the far end is to open.
type Resource struct {
	Name     string            `json:"name"`
	Kind     string            `json:"kind"`
	Address  string            `json:"address,omitempty"`
	Host     string            `json:"host,omitempty"`
	Segments map[string]string `json:"segments,omitempty"`
	Options  map[string]string `json:"options,omitempty"`
}

// update is a platform.Update.
type update struct {
	platform.Update
	Lost string // instead of the error; "" for none
}

func updateOf(u platform.Update) update {
	out := update{Update: u}
	if u.Lost != nil {
		out.Lost = u.Lost.Error()
	}
	out.Update.Lost = nil
	return out
}

func (u *update) update() platform.Update {
	out := u.Update
	if u.Lost != "" {
		out.Lost = errors.New(u.Lost)
	}
	return out
}

// snapshot is a platform.Snapshot.
type snapshot struct {
	platform.Snapshot
	Lost string
}

func snapshotOf(s *platform.Snapshot) *snapshot {
	out := &snapshot{Snapshot: *s}
	if s.Lost != nil {
		out.Lost = s.Lost.Error()
	}
	out.Snapshot.Lost = nil
	return out
}

// snapshot returns the record, with no list missing.
func (s *snapshot) snapshot() *platform.Snapshot {
	out := platform.NewSnapshot(s.Platform)
	out.AtNS = s.AtNS
	if s.Lost != "" {
		out.Lost = errors.New(s.Lost)
	}
	put(out.Hosts, s.Hosts)
	put(out.Switches, s.Switches)
	put(out.VMs, s.VMs)
	put(out.Ports, s.Ports)
	put(out.Objects, s.Objects)
	return out
}

// put copies the records that are there.
func put[T any](to, from map[string]*T) {
	for id, record := range from {
		if record != nil {
			to[id] = record
		}
	}
}

type stepsIn struct {
	Now  *snapshot
	Want platform.Want
}

type stepsOut struct {
	Steps    []platform.Step
	Refusals []platform.Refusal
}

// line reads a line into buf without its end. One of more than limit bytes is an error, before the memory for it is taken.
func line(r *bufio.Reader, buf []byte, limit int) ([]byte, error) {
	for {
		part, err := r.ReadSlice('\n')
		if len(buf)+len(part) > limit {
			return buf, fmt.Errorf("a message of more than %d bytes", limit)
		}
		buf = append(buf, part...)
		if err == nil {
			return buf[:len(buf)-1], nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return buf, err
		}
	}
}

// text writes a message.
func text(m *message) ([]byte, error) {
	b, err := json.Marshal(m)
	if err == nil && len(b) >= maxMessage {
		err = fmt.Errorf("a message of %d bytes, the limit is %d", len(b), maxMessage)
	}
	return append(b, '\n'), err
}
