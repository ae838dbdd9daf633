package ask

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// DefaultServer is where a server listens unless told otherwise.
const DefaultServer = "http://127.0.0.1:8474"

// maxBody bounds what the client reads of one answer.
const maxBody = 1 << 30

// Client asks one server. It is safe for concurrent use.
type Client struct {
	base *url.URL
	http *http.Client
	name string // "server URL", or what it reads itself
}

// NewClient returns a client of the server at that URL, which may have a path prefix. A nil transport
// means http.DefaultTransport.
func NewClient(server string, transport http.RoundTripper) (*Client, error) {
	if !strings.Contains(server, "://") {
		server = "http://" + server
	}
	u, err := url.Parse(server)
	if err != nil {
		return nil, fmt.Errorf("server %q: %w", server, err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" {
		return nil, fmt.Errorf("server %q: expected a URL such as %s", server, DefaultServer)
	}
	return &Client{base: u, http: &http.Client{Transport: transport}, name: "server " + u.String()}, nil
}

// NewLocal returns a client that asks a handler of this process about what messages shall call name.
func NewLocal(name string, h http.Handler) *Client {
	c, err := NewClient(DefaultServer, Local{h})
	if err != nil {
		panic(err) // the constant is a URL
	}
	c.name = name
	return c
}

// Server returns the server's URL.
func (c *Client) Server() string { return c.base.String() }

// Problem is an answer that says why there is none (RFC 9457), with the fields of crosstap's API.
type Problem struct {
	Title  string  `json:"title"`
	Status int     `json:"status"`
	Detail string  `json:"detail"`
	Errors []Fault `json:"errors"`
}

// Fault is one mistake in a question and where it is.
type Fault struct {
	Message    string `json:"message"`
	Location   string `json:"location"` // such as "query.f"
	Value      any    `json:"value"`
	Pos        *int   `json:"pos"` // in the value, bytes; filter expressions only
	Len        *int   `json:"len"`
	Suggestion string `json:"suggestion"`
}

// Error names the problem, and each fault with its place.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Detail)
	if p.Detail == "" {
		fmt.Fprintf(&b, "%d %s", p.Status, p.Title)
	}
	for _, f := range p.Errors {
		b.WriteString("\n  " + f.text())
	}
	return b.String()
}

func (f Fault) text() string {
	s := f.Message
	if f.Location != "" {
		s = strings.TrimPrefix(f.Location, "query.") + ": " + s
	}
	if f.Suggestion != "" {
		s += "; " + f.Suggestion
	}
	if expr, ok := f.Value.(string); ok && f.Pos != nil && f.Len != nil {
		s += "\n    " + expr + "\n    " + underline(expr, *f.Pos, *f.Len)
	}
	return s
}

// underline returns spaces and carets that stand under the n bytes at pos of expr.
func underline(expr string, pos, n int) string {
	pos = min(max(pos, 0), len(expr))
	end := min(pos+max(n, 0), len(expr))
	return strings.Repeat(" ", len([]rune(expr[:pos]))) + strings.Repeat("^", max(1, len([]rune(expr[pos:end]))))
}

// Unreachable says that the server did not answer.
type Unreachable struct {
	Server string
	Err    error
}

// Error names the server, the cause and the way out.
func (e *Unreachable) Error() string {
	cause := e.Err
	var op *net.OpError
	if errors.As(e.Err, &op) {
		cause = op.Err
	}
	return fmt.Sprintf("server %s does not answer: %v; start one with \"crosstap serve\", name another with --server URL, or read a store with --data DIR", e.Server, cause)
}

// Unwrap returns the cause.
func (e *Unreachable) Unwrap() error { return e.Err }

// Get asks for path, such as "api/v1/pairs", and returns the body. The error is a *Problem when the server
// refused, an *Unreachable when it did not answer, or the context's.
func (c *Client) Get(ctx context.Context, path string, q url.Values) ([]byte, error) {
	res, err := c.open(ctx, path, q, "application/json")
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, &Unreachable{c.Server(), err}
	case len(body) > maxBody:
		return nil, fmt.Errorf("%s: answer of more than %d bytes; use a smaller --limit", c.name, maxBody)
	}
	return body, nil
}

// Copy asks for path and writes the body to w as it comes. begun is called when the answer begins.
func (c *Client) Copy(ctx context.Context, path string, q url.Values, accept string, w io.Writer, begun func()) error {
	res, err := c.open(ctx, path, q, accept)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	begun()
	_, err = io.Copy(w, res.Body)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("%s: the answer is not whole: %w", c.name, err)
	}
	return nil
}

// open sends a request and returns an answer with status 200.
func (c *Client) open(ctx context.Context, path string, q url.Values, accept string) (*http.Response, error) {
	u := c.base.JoinPath(path)
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	res, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return nil, &Unreachable{c.Server(), err}
	}
	if res.StatusCode != http.StatusOK {
		defer res.Body.Close()
		return nil, c.problem(res)
	}
	return res, nil
}

// problem reads why the server refused. A body that is no problem document comes from something that
// is not a crosstap server, and is quoted only by its status.
func (c *Client) problem(res *http.Response) error {
	p := &Problem{Status: res.StatusCode, Title: http.StatusText(res.StatusCode)}
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err == nil && strings.HasPrefix(res.Header.Get("Content-Type"), "application/problem+json") {
		err = json.Unmarshal(body, p)
	} else if err == nil {
		p.Detail = fmt.Sprintf("%s answered %s to %s: is it a crosstap server?", c.name, res.Status, res.Request.URL.Path)
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w", c.name, res.Status, err)
	}
	return p
}
