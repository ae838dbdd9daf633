package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"crosstap/internal/agentapi"
	"crosstap/internal/tapspec"
)

// maxReport bounds a request's body.
const maxReport = 16 << 20

// refusal is an error with the status that it is answered with.
type refusal struct {
	status int
	err    error
}

func (r *refusal) Error() string { return r.err.Error() }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Errorf(format, args...)}
}

// agentRoles are the roles that may ask for taps.
var agentRoles = []string{agentapi.RoleAgent, agentapi.RolePayload}

// Handler answers agents, and operators who give them taps.
func (h *Hub) Handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, roles []string, f func(Grant, *http.Request) (any, error)) {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" "+agentapi.Base+path, func(w http.ResponseWriter, r *http.Request) { h.answer(w, r, roles, f) })
	}
	operators := []string{agentapi.RoleOperator}
	handle("POST register", agentRoles, h.register)
	handle("GET taps", agentRoles, h.taps)
	handle("POST report", agentRoles, h.report)
	handle("GET agents", operators, func(Grant, *http.Request) (any, error) { return h.Agents(), nil })
	handle("GET agents/{name}/taps", operators, h.given)
	handle("PUT agents/{name}/taps", operators, h.give)
	handle("DELETE agents/{name}", operators, func(_ Grant, r *http.Request) (any, error) { return struct{}{}, h.Forget(r.PathValue("name")) })
	return mux
}

// answer checks the token, and writes what f returns.
func (h *Hub) answer(w http.ResponseWriter, r *http.Request, roles []string, f func(Grant, *http.Request) (any, error)) {
	r.Body = http.MaxBytesReader(w, r.Body, maxReport)
	g, err := h.admit(r, roles)
	var doc any
	if err == nil {
		doc, err = f(g, r)
	}
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		status := http.StatusUnprocessableEntity
		var no *refusal
		if errors.As(err, &no) {
			status = no.status
		}
		if status == http.StatusInternalServerError {
			h.cfg.Log.Error("agents", "path", r.URL.Path, "error", err)
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"title": http.StatusText(status), "status": status, "detail": err.Error()})
		return
	}
	if doc == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(doc)
}

// admit returns what the request's token allows.
func (h *Hub) admit(r *http.Request, roles []string) (Grant, error) {
	bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return Grant{}, refuse(http.StatusUnauthorized, "a token is needed: crosstap token create --role %s", roles[0])
	}
	g, err := h.cfg.Tokens.Check(bearer)
	if errors.Is(err, ErrDenied) {
		return g, &refusal{http.StatusUnauthorized, err}
	}
	if err != nil {
		return g, &refusal{http.StatusInternalServerError, err}
	}
	for _, role := range roles {
		if g.Role == role {
			return g, nil
		}
	}
	return g, refuse(http.StatusForbidden, "the token has role %s, and this needs %s", g.Role, strings.Join(roles, " or "))
}

func decode(r *http.Request, v any) error {
	if err := json.NewDecoder(r.Body).Decode(v); err != nil {
		return refuse(http.StatusBadRequest, "body: %w", err)
	}
	return nil
}

// register lets an agent in.
func (h *Hub) register(g Grant, r *http.Request) (any, error) {
	var in agentapi.Registration
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	switch {
	case in.Version > agentapi.Version:
		return nil, refuse(http.StatusUnprocessableEntity, "the agent speaks version %d, this server up to %d: upgrade the server first", in.Version, agentapi.Version)
	case in.Instance == "":
		return nil, refuse(http.StatusUnprocessableEntity, "no instance")
	case g.Agent != "" && g.Agent != in.Name:
		return nil, refuse(http.StatusForbidden, "the token is for agent %s, not for %s", g.Agent, in.Name)
	}
	if err := checkAgentName(in.Name); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.agents[in.Name]
	if e == nil {
		if len(h.agents) >= maxAgents {
			return nil, refuse(http.StatusServiceUnavailable, "there are %d agents already", maxAgents)
		}
		e = &entry{}
		h.agents[in.Name] = e
	}
	if old := e.Registration; old != nil && old.Instance != in.Instance && h.state(e) == Online {
		return nil, refuse(http.StatusConflict, "another agent of the name %s is online, on host %s: give this one another --name", in.Name, old.Host)
	}
	e.Registration, e.Token, e.Seen = &in, g.ID, time.Now()
	e.Payload = g.Role == agentapi.RolePayload && in.Payload
	if err := h.save(); err != nil {
		return nil, &refusal{http.StatusInternalServerError, err}
	}
	h.cfg.Log.Info("agent registered", "agent", in.Name, "host", in.Host, "software", in.Software, "payload", e.Payload)
	h.changed()
	return agentapi.Welcome{
		Name: in.Name, Payload: e.Payload, Lease: tapspec.Duration(h.cfg.Lease), Interval: tapspec.Duration(h.cfg.Interval), Wait: tapspec.Duration(h.cfg.Wait),
	}, nil
}

// find returns the agent that a request is from. The caller holds mu.
func (h *Hub) find(g Grant, name, instance string) *entry {
	e := h.agents[name]
	if e == nil || e.Registration == nil || e.Registration.Instance != instance || e.Token != g.ID {
		return nil
	}
	return e
}

// taps answers with orders when they differ from those that the agent has, or with nothing after a while.
func (h *Hub) taps(g Grant, r *http.Request) (any, error) {
	q := r.URL.Query()
	wait := time.NewTimer(h.cfg.Wait)
	defer wait.Stop()
	for {
		h.mu.Lock()
		e := h.find(g, q.Get("name"), q.Get("instance"))
		if e == nil {
			h.mu.Unlock()
			return nil, refuse(http.StatusGone, "not registered")
		}
		e.Seen = time.Now()
		orders, _ := e.orders()
		changes := h.changes
		h.mu.Unlock()
		if _, err := h.admit(r, agentRoles); err != nil { // the token was revoked meanwhile
			return nil, err
		}
		if orders.Revision != q.Get("have") {
			return orders, nil
		}
		select {
		case <-changes:
		case <-wait.C:
			return nil, nil
		case <-r.Context().Done():
			return nil, refuse(http.StatusServiceUnavailable, "the server stops")
		}
	}
}

// report takes down how an agent is.
func (h *Hub) report(g Grant, r *http.Request) (any, error) {
	var in agentapi.Report
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.find(g, in.Name, in.Instance)
	if e == nil {
		return agentapi.Receipt{Register: true}, nil
	}
	e.Seen, e.report = time.Now(), &in
	if in.Interfaces != nil {
		e.Registration.Interfaces, e.Registration.Routing = in.Interfaces, in.Routing
		h.changed()
		if err := h.save(); err != nil {
			return nil, &refusal{http.StatusInternalServerError, err}
		}
	}
	return agentapi.Receipt{}, nil
}

// given returns the taps that an agent was given.
func (h *Hub) given(_ Grant, r *http.Request) (any, error) {
	taps, ok := h.Taps(r.PathValue("name"))
	if !ok {
		return nil, refuse(http.StatusNotFound, "there is no agent %q", r.PathValue("name"))
	}
	return tapspec.Document{Taps: taps}, nil
}

// give gives an agent taps, as YAML or JSON.
func (h *Hub) give(g Grant, r *http.Request) (any, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "body: %w", err)
	}
	taps := []tapspec.Spec{}
	if len(strings.TrimSpace(string(body))) > 0 {
		if taps, err = tapspec.ParseYAML(body); err != nil {
			return nil, err
		}
	}
	name := r.PathValue("name")
	err = h.Put(name, taps)
	var payload *PayloadError
	if errors.As(err, &payload) {
		return nil, &refusal{http.StatusForbidden, err}
	}
	if err != nil {
		return nil, err
	}
	h.cfg.Log.Info("taps given", "agent", name, "taps", len(taps), "token", g.ID)
	a, _ := h.Agent(name)
	return struct {
		tapspec.Document
		State string `json:"state"` // of the agent
	}{tapspec.Document{Taps: taps}, a.State}, nil
}
