package state

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var at = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func (s *Store) texts(t *testing.T) map[string]string {
	t.Helper()
	list, err := s.Resources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, r := range list {
		out[r.Kind+"/"+r.Name] = r.Text
	}
	return out
}

func TestChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "state.db")
	s := open(t, path)
	begin := func(who string, edits ...Edit) int64 {
		t.Helper()
		id, err := s.Begin(t.Context(), Change{At: at, Who: who, Why: "INC-1", Action: "apply", Edits: edits})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	finish := func(id int64, state string) {
		t.Helper()
		if err := s.Finish(t.Context(), id, state, `{"x":1}`, at.Add(time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	want := func(m map[string]string) {
		t.Helper()
		if d := cmp.Diff(m, s.texts(t)); d != "" {
			t.Error(d)
		}
	}
	a := begin("alice", Edit{Kind: "Tap", Name: "web", After: "v1"}, Edit{Kind: "Destination", Name: "ids", After: "d1"})
	want(map[string]string{"Tap/web": "v1", "Destination/ids": "d1"}) // in force before it is done
	finish(a, Done)
	b := begin("bob", Edit{Kind: "Tap", Name: "web", Before: "v1", After: "v2"}, Edit{Kind: "Tap", Name: "new", After: "n1"}, Edit{Kind: "Destination", Name: "ids", Before: "d1"})
	want(map[string]string{"Tap/web": "v2", "Tap/new": "n1"})
	c := begin("carol", Edit{Kind: "Tap", Name: "web", Before: "v2", After: "v3"})
	finish(b, Failed) // what carol has changed since stays hers
	want(map[string]string{"Tap/web": "v3", "Destination/ids": "d1"})

	for _, st := range []Step{{Change: c, N: 1, Platform: "kvm-1", Policy: "web", Step: "{}", State: "doing", At: at}, {Change: c, N: 1, State: "done", At: at}} {
		if err := s.Journal(t.Context(), st); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.Interrupt(t.Context()); n != 1 || err != nil {
		t.Errorf("interrupted %d, %v", n, err)
	}
	got, steps, err := s.Change(t.Context(), c)
	if err != nil || got.State != Interrupted || got.Who != "carol" || len(got.Edits) != 1 || len(steps) != 1 || steps[0].State != "done" || steps[0].Platform != "kvm-1" {
		t.Errorf("%+v %+v %v", got, steps, err)
	}
	if _, _, err := s.Change(t.Context(), 99); !errors.Is(err, ErrNone) {
		t.Errorf("%v", err)
	}
	list, err := s.Changes(t.Context(), 0, 2)
	if err != nil || len(list) != 2 || list[0].ID != c || cmp.Diff(list[1].Resource, []string{"Destination ids", "Tap new", "Tap web"}) != "" {
		t.Errorf("%+v %v", list, err)
	}
	if err := s.Forget(t.Context(), at.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	list, err = s.Changes(t.Context(), 0, 9)
	if err != nil || len(list) != 2 || list[1].ID != b { // those whose resources are in force
		t.Errorf("%+v %v", list, err)
	}
	s.Close()
	want2 := open(t, path).texts(t)
	if d := cmp.Diff(map[string]string{"Tap/web": "v3", "Destination/ids": "d1"}, want2); d != "" {
		t.Error(d)
	}
}

func TestNewerFileIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := open(t, path)
	if err := s.write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(context.Background(), "PRAGMA user_version = 99")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := Open(t.Context(), path); err == nil {
		t.Error("opened")
	}
}

// A change of the text alone leaves when and by whom a resource was applied, also when it is taken back.
func TestTextOnly(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "state.db"))
	edit := func(hour int, who string, e Edit) int64 {
		t.Helper()
		id, err := s.Begin(t.Context(), Change{At: at.Add(time.Duration(hour) * time.Hour), Who: who, Action: "apply", Edits: []Edit{e}})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	want := func(text string, generation, hour int, by string) {
		t.Helper()
		list, err := s.Resources(t.Context())
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		if r := list[0]; r.Text != text || r.Generation != generation || !r.Applied.Equal(at.Add(time.Duration(hour)*time.Hour)) || r.By != by {
			t.Errorf("%+v, want %q of %s, generation %d", r, text, by, generation)
		}
	}
	edit(0, "alice", Edit{Kind: "Tap", Name: "web", After: "v1"})
	edit(1, "bob", Edit{Kind: "Tap", Name: "web", Before: "v1", After: "v1 #", TextOnly: true})
	want("v1 #", 2, 0, "alice")
	id := edit(2, "carol", Edit{Kind: "Tap", Name: "web", Before: "v1 #", After: "v1 ##", TextOnly: true})
	want("v1 ##", 3, 0, "alice")
	if err := s.Finish(t.Context(), id, Failed, "{}", at.Add(3*time.Hour)); err != nil {
		t.Fatal(err)
	}
	want("v1 #", 4, 0, "alice")
	edit(4, "dave", Edit{Kind: "Tap", Name: "web", Before: "v1 #", After: "v2"})
	want("v2", 5, 4, "dave")
	edit(5, "dave", Edit{Kind: "Tap", Name: "db", After: "d1"})

	list, err := s.ChangesOf(t.Context(), "Tap", "web", 0, 2)
	if err != nil || len(list) != 2 || list[0].Who != "dave" || list[1].Who != "carol" || len(list[0].Edits) != 1 || list[0].Edits[0].After != "v2" {
		t.Errorf("%+v %v", list, err)
	}
	if list, err = s.ChangesOf(t.Context(), "Tap", "web", list[1].ID, 9); err != nil || len(list) != 2 || list[0].Who != "bob" {
		t.Errorf("%+v %v", list, err)
	}
}
