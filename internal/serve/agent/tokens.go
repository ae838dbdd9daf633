// Package agent is the server's side of agents: the tokens that let them in, what they are and do, and the taps that they are given. Its
// words are those of package agentapi.
package agent

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/agentapi"
)

// Grant is what a token allows.
type Grant struct {
	ID      string    `json:"id"`
	Role    string    `json:"role"`
	Agent   string    `json:"agent,omitempty"` // the only name that it may be used for, "" for any
	Note    string    `json:"note,omitempty"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
	Hash    string    `json:"sha256"` // of the secret, which has 256 random bits
}

// Tokens decides who may come in.
type Tokens interface {
	// Check returns what the bearer of a token may do, or ErrDenied.
	Check(bearer string) (Grant, error)
}

// ErrDenied is for whoever has no valid token.
var ErrDenied = errors.New("the token is not known, has expired or was revoked")

// TokenFile keeps tokens in a file, hashed. It is read again when it changes, so that tokens are made and revoked while the server runs.
type TokenFile struct {
	path string

	mu     sync.Mutex
	grants []Grant
	read   os.FileInfo
}

// TokenPath is where a server keeps its tokens.
func TokenPath(data string) string { return filepath.Join(data, "agents", "tokens.json") }

// OpenTokens returns the tokens of a file, which need not be there yet.
func OpenTokens(path string) (*TokenFile, error) {
	f := &TokenFile{path: path}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f, f.load()
}

// load reads the file when it has changed.
func (f *TokenFile) load() error {
	st, err := os.Stat(f.path)
	if errors.Is(err, os.ErrNotExist) {
		f.grants, f.read = nil, nil
		return nil
	}
	if err != nil {
		return fmt.Errorf("tokens: %w", err)
	}
	if f.read != nil && os.SameFile(st, f.read) && st.ModTime().Equal(f.read.ModTime()) && st.Size() == f.read.Size() {
		return nil
	}
	b, err := os.ReadFile(f.path)
	if err != nil {
		return fmt.Errorf("tokens: %w", err)
	}
	var grants []Grant
	if err := json.Unmarshal(b, &grants); err != nil {
		return fmt.Errorf("tokens: %s: %w", f.path, err)
	}
	f.grants, f.read = grants, st
	return nil
}

// Check implements Tokens.
func (f *TokenFile) Check(bearer string) (Grant, error) {
	t, err := agentapi.ParseToken(bearer)
	if err != nil {
		return Grant{}, ErrDenied
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.load(); err != nil {
		return Grant{}, err
	}
	i := slices.IndexFunc(f.grants, func(g Grant) bool { return g.ID == t.ID })
	if i < 0 {
		return Grant{}, ErrDenied
	}
	g := f.grants[i]
	same := subtle.ConstantTimeCompare([]byte(hash(t.Secret)), []byte(g.Hash)) == 1
	if !same || !g.Expires.IsZero() && time.Now().After(g.Expires) {
		return Grant{}, ErrDenied
	}
	return g, nil
}

// List returns all tokens, without their secrets.
func (f *TokenFile) List() ([]Grant, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.grants), f.load()
}

// Create makes a token. Its secret is nowhere but in the result.
func (f *TokenFile) Create(g Grant, life time.Duration) (agentapi.Token, error) {
	if !slices.Contains(agentapi.Roles(), g.Role) {
		return agentapi.Token{}, fmt.Errorf("tokens: role %q: want %s", g.Role, strings.Join(agentapi.Roles(), ", "))
	}
	var id [6]byte
	var secret [32]byte
	_, _ = rand.Read(id[:]) // never fails
	_, _ = rand.Read(secret[:])
	t := agentapi.Token{ID: hex.EncodeToString(id[:]), Secret: base64.RawURLEncoding.EncodeToString(secret[:])}
	g.ID, g.Hash, g.Created = t.ID, hash(t.Secret), time.Now().UTC().Truncate(time.Second)
	if life > 0 {
		g.Expires = g.Created.Add(life)
	}
	return t, f.change(func(all []Grant) ([]Grant, error) { return append(all, g), nil })
}

// Revoke takes a token back.
func (f *TokenFile) Revoke(id string) error {
	return f.change(func(all []Grant) ([]Grant, error) {
		i := slices.IndexFunc(all, func(g Grant) bool { return g.ID == id })
		if i < 0 {
			return nil, fmt.Errorf("tokens: there is none with id %q", id)
		}
		return slices.Delete(all, i, i+1), nil
	})
}

// change rewrites the file while nobody else does.
func (f *TokenFile) change(edit func([]Grant) ([]Grant, error)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := folder(filepath.Dir(f.path)); err != nil {
		return fmt.Errorf("tokens: %w", err)
	}
	lock, err := os.OpenFile(f.path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("tokens: %w", err)
	}
	defer lock.Close()
	if err := belong(lock.Name(), filepath.Dir(f.path)); err != nil {
		return fmt.Errorf("tokens: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("tokens: %w", err)
	}
	if err := f.load(); err != nil {
		return err
	}
	grants, err := edit(slices.Clone(f.grants))
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(grants, "", "  ")
	if err == nil {
		err = replace(f.path, append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("tokens: %w", err)
	}
	f.read = nil
	return f.load()
}

func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// replace puts a file in the place of another, whole or not at all. It belongs to whom the folder belongs to: root may make tokens for a
// server that runs as somebody else.
func replace(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // a no-op after the rename
	if err = belong(f.Name(), filepath.Dir(path)); err == nil {
		_, err = f.Write(b)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// folder makes a folder for its owner alone: that of the folder around it.
func folder(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	return belong(path, filepath.Dir(path))
}

// belong gives a new file to the owner of a folder, when root has made it.
func belong(path, dir string) error {
	var owner unix.Stat_t
	if os.Geteuid() != 0 || unix.Stat(dir, &owner) != nil {
		return nil
	}
	return os.Chown(path, int(owner.Uid), int(owner.Gid))
}
