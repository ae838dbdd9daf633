package agent

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net/url"
	"path/filepath"
	"strings"

	"crosstap/internal/agentapi"
	"crosstap/internal/tap"
	"crosstap/internal/tapspec"
)

// rules are what the host's owner lets a server do.
type rules struct {
	files   string // the only folder for capture files; "" for none
	spool   string
	host    string
	program string
	keeper  []string // command that runs kernel.Keep
}

// check refuses what the agent does not do for a server, whatever it says.
func (r *rules) check(s *tapspec.Spec, payload bool) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if s.Payload() && !payload {
		return fmt.Errorf("tap %q copies payload, and this agent may not: it needs a token of role %s and must not run with --no-payload; or keep headers alone with snap: %d",
			s.Name, agentapi.RolePayload, tapspec.HeaderBytes)
	}
	if s.Source.File != "" {
		return fmt.Errorf("tap %q: an agent reads no capture files", s.Name)
	}
	for _, to := range s.To {
		if _, err := r.destination(to); err != nil {
			return fmt.Errorf("tap %q: %w", s.Name, err)
		}
	}
	return nil
}

// destination returns a destination with files where they may be.
func (r *rules) destination(to tapspec.To) (tapspec.To, error) {
	scheme, rest, _ := strings.Cut(to.URL, ":")
	switch path, query, has := strings.Cut(rest, "?"); {
	case rest == "-":
		return to, fmt.Errorf("destination %s: an agent has no standard output", to.URL)
	case strings.Contains(query, "spool_dir="):
		return to, fmt.Errorf("destination %s: where flows wait is the agent's affair: leave spool_dir out", to.URL)
	case scheme != "pcapng" && scheme != "pcap":
		return to, nil
	case r.files == "":
		return to, fmt.Errorf("destination %s: this agent writes no files: start it with --files FOLDER", to.URL)
	default:
		path = filepath.Join(r.files, strings.TrimPrefix(path, r.files+"/"))
		if rel, err := filepath.Rel(r.files, path); err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
			return to, fmt.Errorf("destination %s: it is not in %s", to.URL, r.files)
		}
		to.URL = scheme + ":" + path
		if has {
			to.URL += "?" + query
		}
		return to, nil
	}
}

// spec returns the tap that a specification describes on this host.
func (r *rules) spec(d *tapspec.Spec) (tap.Spec, error) {
	out := *d
	out.To = nil
	for _, to := range d.To {
		to, err := r.destination(to)
		if err != nil {
			return tap.Spec{}, err
		}
		out.To = append(out.To, to)
	}
	s, err := tap.FromSpec(&out)
	if err != nil {
		return s, err
	}
	s.Host, s.Program, s.SpoolDir, s.Keeper = r.host, r.program, r.folder(d.Name), r.keeper
	if len(s.To) == 0 {
		return s, errors.New("no destination")
	}
	return s, nil
}

// folder is where flows of a tap wait: of one collector each tap has a spool of its own.
func (r *rules) folder(tap string) string {
	if r.spool == "" {
		return ""
	}
	name := url.PathEscape(tap)
	if len(name) > maxFolder {
		h := fnv.New64a()
		_, _ = h.Write([]byte(tap))
		name = fmt.Sprintf("%s-%016x", name[:maxFolder/2], h.Sum64())
	}
	return filepath.Join(r.spool, "tap-"+name)
}

const maxFolder = 200 // bytes of a name; file systems take 255

// exclusive reports whether two taps need something that only one can have: a port that mirrors send to, or clients of remote capture
// connect to, a file, or a remote host's interface. Then the one before ends first, and the gap is told.
func exclusive(a, b *tapspec.Spec) bool {
	if len(a.Source.Listen) > 0 && len(b.Source.Listen) > 0 {
		return true
	}
	have := map[string]bool{}
	for _, to := range a.To {
		have[claim(to.URL)] = true
	}
	for _, to := range b.To {
		if c := claim(to.URL); c != "" && have[c] {
			return true
		}
	}
	return false
}

// claim names what a destination has for itself; "" for nothing.
func claim(to string) string {
	base, _, _ := strings.Cut(to, "?")
	scheme, _, _ := strings.Cut(base, ":")
	switch scheme {
	case "rpcap", "rpcaps", "pcapng", "pcap":
		return base
	}
	return ""
}
