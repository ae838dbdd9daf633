package serve

import (
	"context"
	"os"
	"time"

	"crosstap/internal/ie"
	"crosstap/internal/serve/settings"
)

// watchEvery is how often files are looked at.
const watchEvery = 2 * time.Second

// fileState tells one state of a file from another.
type fileState struct {
	at   time.Time
	size int64
}

func stateOf(path string) fileState {
	info, err := os.Stat(path)
	if err != nil {
		return fileState{}
	}
	return fileState{info.ModTime(), info.Size()}
}

// watch calls use when one of the files has changed, until ctx ends.
func watch(ctx context.Context, paths []string, use func()) error {
	before := make([]fileState, len(paths))
	for i, path := range paths {
		before[i] = stateOf(path)
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		changed := false
		for i, path := range paths {
			if now := stateOf(path); now != before[i] {
				before[i], changed = now, true
			}
		}
		if changed {
			use()
		}
	}
}

// useExporters takes up a new version of the exporters' file. One that cannot be used leaves what was.
func (s *Server) useExporters() {
	rules, err := settings.LoadExporters(s.cfg.Exporters)
	if err == nil {
		err = s.collector.SetRules(rules)
	}
	if err != nil {
		s.cfg.Log.Warn("exporters file not taken up; the version before stays in use", "err", err)
		return
	}
	s.cfg.Log.Info("exporters file taken up", "entries", len(rules))
}

// useElements takes up new versions of the files of elements, likewise.
func (s *Server) useElements() {
	if err := s.defineElements(); err != nil {
		s.cfg.Log.Warn("definitions of elements not taken up; those before stay in use", "err", err)
		return
	}
	s.cfg.Log.Info("definitions of elements taken up")
}

// defineElements makes the operator's elements known, for stored records too: those are kept by number.
func (s *Server) defineElements() error {
	all, err := ie.Load(s.cfg.Elements...)
	if err != nil {
		return err
	}
	return ie.Define(all)
}
