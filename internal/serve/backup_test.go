package serve

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"crosstap/internal/serve/agent"
	"crosstap/internal/state"

	"github.com/google/go-cmp/cmp"
)

// What a backup has beside records is there again after a restore, for its owner alone; a server without any of it has none afterwards.
func TestCopyState(t *testing.T) {
	from, backup, to := t.TempDir(), t.TempDir(), t.TempDir()
	if err := CopyState(t.Context(), from, backup); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(backup); len(left) > 0 {
		t.Error(left)
	}
	st, err := state.Open(t.Context(), filepath.Join(from, controlFile))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	at := time.UnixMilli(1_700_000_000_000).UTC()
	if _, err := st.Begin(t.Context(), state.Change{At: at, Who: "alice", Why: "INC-1", Action: "apply", Edits: []state.Edit{{Kind: "Tap", Name: "web", After: "text"}}}); err != nil {
		t.Fatal(err)
	}
	tokens, err := agent.OpenTokens(agent.TokenPath(from))
	if err != nil {
		t.Fatal(err)
	}
	token, err := tokens.Create(agent.Grant{Role: "agent"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := agent.OpenAuthority(agent.AuthorityPath(from))
	if err != nil {
		t.Fatal(err)
	}

	if err := CopyState(t.Context(), from, backup); err != nil { // the first file is open, as that of a server is
		t.Fatal(err)
	}
	if err := CopyState(t.Context(), backup, to); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(to, controlFile), agent.TokenPath(to), agent.AuthorityPath(to)} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Error(path, info, err)
		}
	}
	again, err := state.Open(t.Context(), filepath.Join(to, controlFile))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	got, err := again.Changes(t.Context(), 0, 9)
	if err != nil || len(got) != 1 || got[0].Who != "alice" || got[0].Why != "INC-1" || !got[0].At.Equal(at) {
		t.Error(got, err)
	}
	resources, err := again.Resources(t.Context())
	if err != nil || len(resources) != 1 || resources[0].Text != "text" {
		t.Error(resources, err)
	}
	restored, err := agent.OpenTokens(agent.TokenPath(to))
	if err != nil {
		t.Fatal(err)
	}
	if grant, err := restored.Check(token.Bearer()); err != nil || grant.Role != "agent" {
		t.Error(grant, err)
	}
	same, err := agent.OpenAuthority(agent.AuthorityPath(to))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(authority.Pin(), same.Pin()); diff != "" {
		t.Error(diff)
	}
	if err := CopyState(t.Context(), from, to); err == nil {
		t.Error("what was there is overwritten")
	}
}
