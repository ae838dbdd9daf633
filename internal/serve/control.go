package serve

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"

	"crosstap/internal/control"
	"crosstap/internal/control/plan"
	agentplatform "crosstap/internal/control/platform/agent"
	"crosstap/internal/serve/controlapi"
	"crosstap/internal/serve/desk"
	"crosstap/internal/state"
	"crosstap/internal/tapspec"
)

// controlFile is what the control line keeps in the data directory.
const controlFile = "control.db"

// controls is the control line of a server: what shall be seen, and the watch that keeps it so.
type controls struct {
	store *state.Store
	line  *control.Line
	api   http.Handler
}

// openControl opens the control line. Its file stands beside the flows.
func (s *Server) openControl(ctx context.Context, rates plan.Rates) (c controls, err error) {
	if c.store, err = state.Open(ctx, filepath.Join(s.cfg.Data, controlFile)); err != nil {
		return c, fmt.Errorf("serve: %w", err)
	}
	c.line, err = control.New(control.Config{
		Owner: s.cfg.ControlOwner, Store: c.store, Connect: controlapi.Connect(s.cfg.Log), Rates: rates, Log: s.cfg.Log,
	})
	if err != nil {
		return c, errors.Join(fmt.Errorf("serve: %w", err), c.store.Close())
	}
	c.api = controlapi.New(controlapi.Config{Line: c.line, Store: c.store, Log: s.cfg.Log})
	return c, nil
}

// own makes the server's agents a platform of the control line, when there may be any.
func (c *controls) own(a agents, path func(*tapspec.Spec) string) error {
	if a.hub == nil {
		return nil
	}
	p, err := agentplatform.New(agentplatform.Config{Desk: desk.New(a.hub), Path: path})
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return c.line.Own(p)
}

// control keeps platforms as they are wanted until ctx ends. What ends it before is said, and the rest of the server goes on.
func (s *Server) control(ctx context.Context) error {
	if err := s.controls.line.Run(ctx); err != nil {
		s.cfg.Log.Error("platforms are not watched any more", "err", err)
	}
	return nil
}

func (c *controls) close() error {
	if c.line == nil {
		return nil
	}
	return errors.Join(c.line.Close(), c.store.Close())
}
