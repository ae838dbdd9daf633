package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"crosstap/internal/flowproto"
)

// The file of templates: a JSON document; the templates of each session are IPFIX messages (RFC 5655).
type savedTable struct {
	Version  int            `json:"version"`
	Sessions []savedSession `json:"sessions"`
}

type savedSession struct {
	Exporter  netip.AddrPort `json:"exporter"`
	Local     netip.AddrPort `json:"local"`
	LastNS    int64          `json:"last_ns"`
	Templates []byte         `json:"templates"`
	Told      []savedTold    `json:"told,omitempty"`
}

// savedTold is what option records said of one domain: with a stopped collector, sampling rates must not be lost until they are
// told again.
type savedTold struct {
	Protocol uint8  `json:"protocol"`
	Domain   uint32 `json:"domain"`
	told
}

const (
	savedVersion  = 1
	maxSavedBytes = 256 << 20
)

// Save writes the templates of all sessions to a file, which is replaced whole.
func (t *Table) Save(path string) error {
	doc := savedTable{Version: savedVersion}
	for _, s := range t.usedSessions() {
		if s.key.Conn != 0 {
			continue // it ends with the connection
		}
		s.mu.Lock()
		b, told := s.dec.AppendTemplates(nil), s.saveTold()
		s.mu.Unlock()
		if len(b)+len(told) > 0 {
			doc.Sessions = append(doc.Sessions, savedSession{s.key.Exporter, s.key.Local, t.seen(s), b, told})
		}
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("session: save templates: %w", err)
	}
	return replaceFile(path, text)
}

// saveTold copies what options told. The session is locked.
func (s *session) saveTold() (out []savedTold) {
	for k, d := range s.told {
		c := *d
		c.Samplers, c.ByIf, c.Ifs = maps.Clone(d.Samplers), maps.Clone(d.ByIf), maps.Clone(d.Ifs)
		c.VRFs, c.Apps, c.Points = maps.Clone(d.VRFs), maps.Clone(d.Apps), maps.Clone(d.Points)
		out = append(out, savedTold{uint8(k.protocol), k.domain, c})
	}
	return out
}

func (s *session) restoreTold(saved []savedTold) {
	for i := range saved {
		d := &saved[i].told
		n := len(d.Samplers) + len(d.ByIf) + len(d.Ifs) + len(d.VRFs) + len(d.Apps) + len(d.Points)
		if len(s.told) >= maxToldDomains || n > 6*maxTold {
			return
		}
		if s.told == nil {
			s.told = make(map[domainKey]*told)
		}
		s.told[domainKey{flowproto.Protocol(saved[i].Protocol), saved[i].Domain}] = d
		s.names += n
	}
}

// usedSessions lists the sessions that have given something, least recently used first.
func (t *Table) usedSessions() []*session {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []*session
	for s := t.used.first; s != nil; s = s.next {
		out = append(out, s)
	}
	return out
}

func (t *Table) seen(s *session) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return s.seenNS
}

// saving keeps two savers from writing one temporary file.
var saving sync.Mutex

func replaceFile(path string, text []byte) error {
	saving.Lock()
	defer saving.Unlock()
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("session: save templates: %w", err)
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("session: save templates to %s: %w", filepath.Base(path), err)
	}
	return nil
}

// Restore reads what Save wrote into a new table and returns the number of sessions. A file that is
// not there is no error; one that cannot be read is: it is only a convenience, and the caller goes on
// without it.
func (t *Table) Restore(path string, nowNS int64) (int, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err == nil && info.Size() > maxSavedBytes {
		return 0, fmt.Errorf("session: restore templates: %s has %d bytes, the limit is %d", path, info.Size(), maxSavedBytes)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("session: restore templates: %w", err)
	}
	var doc savedTable
	if err := json.Unmarshal(text, &doc); err != nil {
		return 0, fmt.Errorf("session: restore templates: %s: %w", path, err)
	}
	if doc.Version != savedVersion {
		return 0, fmt.Errorf("session: restore templates: %s: version is %d, want %d", path, doc.Version, savedVersion)
	}
	n := 0
	for _, s := range doc.Sessions {
		n += t.restore(s, nowNS)
	}
	return n, nil
}

// restore makes one session; it returns 0 when it gave nothing or there is no room.
func (t *Table) restore(saved savedSession, nowNS int64) int {
	k := Key{Exporter: saved.Exporter, Local: saved.Local}
	s := t.open(k)
	if _, err := s.dec.Restore(saved.Templates, nowNS); err != nil {
		return 0
	}
	s.restoreTold(saved.Told)
	if s.dec.Templates()+len(s.told) == 0 {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sessions[k] != nil || len(t.sessions) >= t.cfg.MaxSessions {
		return 0
	}
	s.seenNS, s.proven, s.held = saved.LastNS, true, s.heldBytes()
	t.held += s.held
	t.sessions[k] = s
	t.used.push(s)
	return 1
}
