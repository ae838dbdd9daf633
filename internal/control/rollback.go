package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"crosstap/internal/control/policy"
	"crosstap/internal/state"
)

// ErrNoEdit says that a change cannot be taken back, because it followed or repaired what resources want and changed none of them.
var ErrNoEdit = errors.New("has changed no resource")

// Later is an edit that a rollback of an earlier change undoes, too.
type Later struct {
	Change   int64     `json:"change"` // 0 when the history does not know it any more
	Resource string    `json:"resource"`
	At       time.Time `json:"at,omitzero"`
	Who      string    `json:"who,omitempty"`
	Why      string    `json:"why,omitempty"`
	Action   string    `json:"action,omitempty"`
}

func (e *Later) String() string {
	if e.Change == 0 {
		return e.Resource + " by a change that the history has forgotten"
	}
	text := fmt.Sprintf("%s by change %d (%s of %s, %s", e.Resource, e.Change, e.Action, e.Who, e.At.UTC().Format(time.RFC3339))
	if e.Why != "" {
		text += ": " + e.Why
	}
	return text + ")"
}

// LaterError says that a rollback was not asked to undo later edits, and would.
type LaterError struct {
	Change int64
	Later  []Later // the newest first
}

func (e *LaterError) Error() string {
	const most = 5
	var list []string
	for i := range e.Later[:min(len(e.Later), most)] {
		list = append(list, e.Later[i].String())
	}
	if n := len(e.Later) - most; n > 0 {
		list = append(list, fmt.Sprintf("and %d more", n))
	}
	return fmt.Sprintf("control: rollback of change %d would undo later edits: %s; roll those back first, the newest first, or undo them too (--force, in the API force: true)",
		e.Change, strings.Join(list, "; "))
}

// Rollback returns what a change must want to bring the resources back to what they were before an earlier one. Its plan is refused with a
// LaterError when that would undo later edits, unless Wanted.Force is set.
func (l *Line) Rollback(ctx context.Context, id int64) (Wanted, error) {
	c, _, err := l.cfg.Store.Change(ctx, id)
	if err != nil {
		return Wanted{}, err
	}
	w := Wanted{Set: &policy.Set{}, back: &c}
	if len(c.Edits) == 0 {
		return w, fmt.Errorf("control: change %d (%s) %w: \"crosstap history\" names what the others have changed", id, c.Action, ErrNoEdit)
	}
	for _, e := range c.Edits {
		if e.Before == "" {
			w.Delete = append(w.Delete, policy.Resource{Kind: e.Kind, Name: e.Name})
			continue
		}
		one, err := policy.Parse(fmt.Sprintf("%s %s before change %d", e.Kind, e.Name, id), []byte(e.Before))
		if err != nil {
			return w, err
		}
		w.Set = w.Set.Merged(one)
	}
	return w, nil
}

// undoes lists the edits after a change that its rollback undoes, the newest first: of resources that are neither as it left them nor as they
// were before it.
func (l *Line) undoes(ctx context.Context, c *state.Change, now *policy.Set) (out []Later, err error) {
	texts := map[[2]string]string{}
	for _, r := range now.Resources() {
		texts[[2]string{r.Kind, r.Name}] = r.Text
	}
	for _, e := range c.Edits {
		if text := texts[[2]string{e.Kind, e.Name}]; text == e.After || text == e.Before {
			continue
		}
		resource, known := strings.ToLower(e.Kind)+" "+e.Name, len(out)
		all, err := l.cfg.Store.ChangesOf(ctx, e.Kind, e.Name, 0, maxUndone)
		if err != nil {
			return nil, err
		}
		for _, after := range all {
			if after.ID > c.ID && after.State != state.Failed {
				out = append(out, Later{Change: after.ID, Resource: resource, At: after.At, Who: after.Who, Why: after.Why, Action: after.Action})
			}
		}
		if len(out) == known {
			out = append(out, Later{Resource: resource})
		}
	}
	slices.SortStableFunc(out, func(a, b Later) int { return cmp.Compare(b.Change, a.Change) })
	return out, nil
}

// maxUndone bounds the changes of one resource that are told.
const maxUndone = 100
