package control_test

import (
	"path/filepath"
	"strings"
	"testing"

	"crosstap/internal/control"
	"crosstap/internal/control/policy"
	"crosstap/internal/state"
)

// Two people plan at the same time and apply one after the other: both have what they wanted.
func TestOvertakenPlan(t *testing.T) {
	st, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "s.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	line, err := control.New(control.Config{Store: st})
	if err != nil {
		t.Fatal(err)
	}
	parse := func(text string) *policy.Set {
		t.Helper()
		set, err := policy.Parse("test", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	const head = "apiVersion: crosstap/v1\nkind: Tenant\nmetadata: {name: "
	var plans []*control.Plan
	for _, name := range []string{"blue", "red"} {
		p, err := line.Plan(t.Context(), control.Wanted{Set: parse(head + name + "}\nspec: {segments: ['vxlan:1']}\n")})
		if err != nil {
			t.Fatal(err)
		}
		plans = append(plans, p)
	}
	for _, p := range plans {
		if out, err := line.Apply(t.Context(), p, control.Author{Who: "x", Action: "apply"}); err != nil || out.State != state.Done {
			t.Fatalf("%+v, %v", out, err)
		}
	}
	set, err := line.Set(t.Context())
	if err != nil || len(set.Tenants) != 2 {
		t.Errorf("%+v, %v", set, err)
	}
	w, err := line.Rollback(t.Context(), 1)
	if err != nil || len(w.Delete) != 1 || w.Delete[0].Name != "blue" {
		t.Errorf("%+v, %v", w, err)
	}
	if _, err := control.New(control.Config{Store: st, Owner: "a b"}); err == nil || !strings.Contains(err.Error(), "owner") {
		t.Errorf("%v", err)
	}
}
