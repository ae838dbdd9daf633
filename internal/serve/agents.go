package serve

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"

	"crosstap/internal/agentapi"
	"crosstap/internal/serve/agent"
	"crosstap/internal/serve/api"
)

// agents is the server's side of agents: who they are, and where they come in.
type agents struct {
	hub *agent.Hub
	ln  net.Listener // nil when none may come
	tls *tls.Config  // nil for plain HTTP behind a proxy on this host
}

// openAgents opens what agents need, when they may come.
func (s *Server) openAgents(ctx context.Context) (a agents, err error) {
	if s.cfg.Agents == "" {
		return a, nil
	}
	tokens, err := agent.OpenTokens(agent.TokenPath(s.cfg.Data))
	if err != nil {
		return a, fmt.Errorf("serve: %w", err)
	}
	c := agent.DefaultConfig()
	c.Dir, c.Tokens, c.Log, c.Lease = filepath.Join(s.cfg.Data, "agents"), tokens, s.cfg.Log, s.cfg.AgentsLease
	if a.hub, err = agent.New(c); err != nil {
		return a, fmt.Errorf("serve: %w", err)
	}
	if a.tls, err = s.agentsTLS(); err != nil {
		return a, fmt.Errorf("serve: %w", err)
	}
	if a.ln, err = new(net.ListenConfig).Listen(ctx, "tcp", s.cfg.Agents); err != nil {
		return a, fmt.Errorf("serve: agents %s: %w", s.cfg.Agents, inUse(err, "tcp", s.cfg.Agents, "agents"))
	}
	s.cfg.Log.Info("agents may come", "agents", "https://"+a.ln.Addr().String())
	return a, nil
}

// agentsTLS returns the certificate of the settings, else one of the server's own authority.
func (s *Server) agentsTLS() (*tls.Config, error) {
	if s.cfg.AgentsCert != "" {
		pair, err := tls.LoadX509KeyPair(s.cfg.AgentsCert, s.cfg.AgentsKey)
		if err != nil {
			return nil, fmt.Errorf("agents-cert: %w", err)
		}
		return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}, nil
	}
	authority, err := agent.OpenAuthority(agent.AuthorityPath(s.cfg.Data))
	if err != nil {
		return nil, err
	}
	names := agent.HostNames()
	if ap, err := netip.ParseAddrPort(s.cfg.Agents); err == nil && !ap.Addr().IsUnspecified() {
		names = append(names, ap.Addr().String())
	}
	return authority.TLS(names), nil
}

// run answers agents until ctx ends.
func (a *agents) run(ctx context.Context) error { return a.hub.Serve(ctx, a.ln, a.tls) }

// handler answers what the console and the command line ask about agents.
func (a *agents) handler() http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, doc any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(doc) // whoever asked is gone
	}
	mux.HandleFunc("GET /api/v1/agents", func(w http.ResponseWriter, _ *http.Request) {
		list := []agent.Agent{}
		if a.hub != nil {
			list = a.hub.Agents()
		}
		answer(w, agentList{Schema: 1, Rows: list})
	})
	mux.HandleFunc("GET /api/v1/agents/{name}", func(w http.ResponseWriter, r *http.Request) {
		if a.hub != nil {
			if one, ok := a.hub.Agent(r.PathValue("name")); ok {
				answer(w, one)
				return
			}
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusNotFound)
		_ = json.NewEncoder(w).Encode(map[string]any{"title": "Not Found", "status": http.StatusNotFound, "detail": fmt.Sprintf("there is no agent %q; crosstap get agents lists them", r.PathValue("name"))})
	})
	return agentsHandler{mux}
}

// counts tells how many agents and taps there are.
func (a *agents) counts() api.AgentCounts {
	n := api.AgentCounts{Agents: map[string]int{agent.Online: 0, agent.Lost: 0, agent.Offline: 0, agent.Expected: 0}, Taps: map[string]int{}}
	if a.hub == nil {
		return n
	}
	for _, x := range a.hub.Agents() {
		n.Agents[x.State]++
		for _, t := range x.Taps {
			n.Taps[t.State]++
		}
	}
	return n
}

// findings says what an operator should look at.
func (a *agents) findings() (out []api.Finding) {
	if a.hub == nil {
		return nil
	}
	var away, failed, short []string
	for _, x := range a.hub.Agents() {
		if x.State == agent.Lost || x.State == agent.Offline {
			away = append(away, x.Name+" ("+x.State+")")
			continue
		}
		for _, t := range x.Taps {
			switch {
			case t.State == agentapi.StateFailed || t.State == agentapi.StateRefused:
				failed = append(failed, x.Name+"/"+t.Name)
			case t.State == agentapi.StateRunning && t.Level != governorFull:
				short = append(short, x.Name+"/"+t.Name+" ("+t.Level+")")
			}
		}
	}
	for _, f := range []struct {
		names       []string
		why, action string
	}{
		{away, "are silent", "see crosstap describe agent NAME, and the agent's log; their taps go on until their lease ends"},
		{failed, "do not run", "crosstap describe agent NAME says why"},
		{short, "are above their budget and do less of their work", "filter or slice more, raise the budget, or accept it"},
	} {
		if len(f.names) > 0 {
			out = append(out, api.Finding{Level: "warn", What: "agents", Why: fewNames(f.names) + " " + f.why, Action: f.action})
		}
	}
	return out
}

// governorFull is the level of a tap that does all of its work.
const governorFull = "full"

// fewNames lists names, and says how many more there are.
func fewNames(names []string) string {
	const most = 5
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
