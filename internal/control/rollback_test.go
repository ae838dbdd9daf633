package control

import (
	"errors"
	"strings"
	"testing"

	"crosstap/internal/control/policy"
)

// A rollback that would undo later edits says which, and does so when it is told to.
func TestRollbackOfLater(t *testing.T) {
	line, _ := emptyLine(t)
	apply := func(w Wanted, who string) {
		t.Helper()
		p, err := line.Plan(t.Context(), w)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := line.Apply(t.Context(), p, Author{Who: who, Why: "INC-1", Action: "apply"}); err != nil {
			t.Fatal(err)
		}
	}
	tenant := func(name, segment string) Wanted {
		t.Helper()
		set, err := policy.Parse("test", []byte("apiVersion: crosstap/v1\nkind: Tenant\nmetadata: {name: "+name+"}\nspec: {segments: ['vxlan:"+segment+"']}\n"))
		if err != nil {
			t.Fatal(err)
		}
		return Wanted{Set: set}
	}
	segments := func() string {
		t.Helper()
		set, err := line.Set(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, r := range set.Resources() {
			_, after, _ := strings.Cut(r.Text, "vxlan:")
			out = append(out, r.Name+" "+after[:1])
		}
		return strings.Join(out, ", ")
	}
	back := func(id int64, force bool) (*Plan, error) {
		t.Helper()
		w, err := line.Rollback(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		w.Force = force
		return line.Plan(t.Context(), w)
	}
	apply(tenant("blue", "1"), "alice") // 1
	apply(tenant("blue", "2"), "bob")   // 2
	apply(tenant("red", "3"), "carol")  // 3
	apply(tenant("blue", "4"), "dave")  // 4

	_, err := back(2, false)
	var later *LaterError
	if !errors.As(err, &later) || len(later.Later) != 1 || later.Later[0].Change != 4 || later.Later[0].Who != "dave" || later.Later[0].Resource != "tenant blue" {
		t.Fatalf("%v", err)
	}
	for _, word := range []string{"rollback of change 2", "tenant blue by change 4 (apply of dave", "INC-1", "--force"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("no %q in %v", word, err)
		}
	}
	if segments() != "blue 4, red 3" {
		t.Errorf("something was done: %s", segments())
	}
	if p, err := back(4, false); err != nil || len(p.Undoes) > 0 {
		t.Errorf("the last of its resource: %v", err)
	}
	if p, err := back(3, false); err != nil || len(p.Undoes) > 0 {
		t.Errorf("nobody has changed it since: %v", err)
	}
	w, err := line.Rollback(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	w.Force = true
	if p, err := line.Plan(t.Context(), w); err != nil || len(p.Undoes) != 2 || p.Undoes[0].Change != 4 || p.Undoes[1].Change != 2 {
		t.Errorf("%+v, %v", p, err)
	}
	apply(w, "erin") // 5
	if segments() != "red 3" {
		t.Errorf("after it: %s", segments())
	}
	if p, err := back(1, false); err != nil || len(p.Undoes) > 0 || !p.Empty() {
		t.Errorf("what is already as it was: %+v, %v", p, err)
	}
}
