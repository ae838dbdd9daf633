package api

import (
	"compress/gzip"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"
)

// guard stands before everything: a panic becomes a 500, only GET and HEAD pass, a page of another
// origin cannot reach a loopback listener through a name of its own (DNS rebinding), and browsers
// are told not to guess types or load from elsewhere.
func (a *API) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer a.recovered(w, r)
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		switch {
		case !a.hostAllowed(r):
			problem(http.StatusMisdirectedRequest, fmt.Sprintf("host %q: this listener answers to localhost and loopback addresses only; allow more names with --http-host", r.Host)).write(w)
		case a.changes(r):
			if why := a.mayChange(r); why != nil {
				why.write(w)
				return
			}
			next.ServeHTTP(w, r)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			problem(http.StatusMethodNotAllowed, "this API only reads: GET or HEAD").write(w)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// changes reports whether a request may be one that changes something: those of the control line alone.
func (a *API) changes(r *http.Request) bool {
	return a.cfg.Control != nil && r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/api/v1/control/")
}

// mayChange refuses changes that a page of another origin asks a browser for, and those from beyond this machine, also when a proxy on it
// passes them on: there is no login.
func (a *API) mayChange(r *http.Request) *Problem {
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && !loopback(local) {
		return problem(http.StatusForbidden, "changes are taken on a loopback address only, because there is no login: ask from the server's own machine, such as through ssh -L")
	}
	if !a.cfg.Administrator(r) {
		return problem(http.StatusForbidden, "changes are not taken through a proxy, because there is no login: ask from the server's own machine, such as through ssh -L")
	}
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		return problem(http.StatusForbidden, err.Error())
	}
	return nil
}

func (a *API) recovered(w http.ResponseWriter, r *http.Request) {
	switch p := recover(); p {
	case nil:
	case http.ErrAbortHandler:
		panic(p)
	default:
		a.broken("an error in crosstap; its log says more", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack())).write(w)
	}
}

// hostAllowed reports whether the Host header is a name that a user typed and not one that a foreign
// page chose. Listeners beyond loopback are reached under names we cannot know.
func (a *API) hostAllowed(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok || !loopback(local) {
		return true
	}
	name := r.Host
	if h, _, err := net.SplitHostPort(name); err == nil {
		name = h
	}
	name = strings.ToLower(strings.Trim(name, "[]"))
	if name == "localhost" || strings.HasSuffix(name, ".localhost") || slices.Contains(a.cfg.Hosts, name) {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.Unmap().IsLoopback()
}

func loopback(a net.Addr) bool {
	ap, err := netip.ParseAddrPort(a.String())
	return err == nil && ap.Addr().Unmap().IsLoopback()
}

// compactFrom is the size from which compression pays.
const compactFrom = 1400

// compact gives answers an entity tag, answers 304 when the client has the same bytes, and compresses the
// rest. The answer is held in memory, as it is already.
func (a *API) compact(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		if path == "/api/v1/events" || !strings.HasPrefix(path, "/api/") && !strings.HasPrefix(path, "/openapi") {
			next.ServeHTTP(w, r)
			return
		}
		held := &held{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(held, r)
		held.release(r)
	})
}

// held is a response that waits in memory.
type held struct {
	http.ResponseWriter
	status int
	body   []byte
}

// Unwrap is for http.ResponseController.
func (h *held) Unwrap() http.ResponseWriter { return h.ResponseWriter }

func (h *held) WriteHeader(status int) { h.status = status }
func (h *held) Write(b []byte) (int, error) {
	h.body = append(h.body, b...)
	return len(b), nil
}

func (h *held) release(r *http.Request) {
	header := h.Header()
	header.Set("Vary", "Accept-Encoding")
	header.Set("Cache-Control", "no-cache")
	if h.status != http.StatusOK {
		header.Set("Cache-Control", "no-store")
		h.ResponseWriter.WriteHeader(h.status)
		_, _ = h.ResponseWriter.Write(h.body)
		return
	}
	tag := fmt.Sprintf(`W/"%016x"`, xxh3.Hash(h.body))
	header.Set("ETag", tag)
	if slices.Contains(tags(r.Header.Get("If-None-Match")), tag) {
		header.Del("Content-Type")
		h.ResponseWriter.WriteHeader(http.StatusNotModified)
		return
	}
	if len(h.body) < compactFrom || !acceptsGzip(r.Header.Get("Accept-Encoding")) {
		_, _ = h.ResponseWriter.Write(h.body)
		return
	}
	header.Set("Content-Encoding", "gzip")
	header.Del("Content-Length")
	z, _ := gzip.NewWriterLevel(h.ResponseWriter, gzip.BestSpeed) // the level is valid
	_, _ = z.Write(h.body)
	_ = z.Close()
}

func tags(list string) []string {
	out := strings.Split(list, ",")
	for i := range out {
		out[i] = strings.TrimSpace(out[i])
	}
	return out
}

// acceptsGzip reads Accept-Encoding: gzip, unless with a weight of zero (RFC 9110, section 12.5.3).
func acceptsGzip(accept string) bool {
	for _, part := range strings.Split(accept, ",") {
		coding, weight, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			q := strings.TrimRight(strings.TrimSpace(weight), "0")
			return q != "q=" && q != "q=0." && q != "q=0"
		}
	}
	return false
}
