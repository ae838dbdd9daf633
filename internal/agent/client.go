package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"crosstap/internal/agentapi"
	"crosstap/internal/pki"
)

// client speaks to the server.
type client struct {
	base  *url.URL
	token agentapi.Token
	http  *http.Client
}

// Statuses that mean something to an agent.
var (
	errUnregistered = errors.New("the server does not know this agent any more")
	errRefused      = errors.New("refused") // asking again soon will not help
)

const (
	requestTimeout = 15 * time.Second
	maxAnswer      = 16 << 20
)

// newClient returns a client that trusts the token's pin, else the authorities of files.
func newClient(server string, token agentapi.Token, files pki.Client) (*client, error) {
	if !strings.Contains(server, "://") {
		server = "https://" + server
	}
	u, err := url.Parse(server)
	switch {
	case err != nil:
		return nil, fmt.Errorf("agent: server: %w", err)
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.User != nil:
		return nil, fmt.Errorf("agent: server %q: want a URL such as https://crosstap.example:8475", server)
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return nil, fmt.Errorf("agent: server %q: the token would be sent in the clear: want https", server)
	}
	t, err := files.Config()
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	if token.Pin != "" && files.CA == "" {
		t.InsecureSkipVerify = true // the pinned authority decides, in its place
		t.VerifyConnection = pinned(token.Pin)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone() // with the proxy of the environment
	transport.TLSClientConfig, transport.ForceAttemptHTTP2 = t, true
	transport.MaxIdleConnsPerHost = 2
	return &client{base: u.JoinPath(agentapi.Base), token: token, http: &http.Client{Transport: transport}}, nil
}

func loopback(host string) bool {
	return host == "localhost" || host == "::1" || strings.HasPrefix(host, "127.")
}

// pinned accepts a server whose certificate was signed by the authority with this pin. That authority signs for one server alone, so that
// the name in the certificate does not matter: servers are reached under many.
func pinned(pin string) func(tls.ConnectionState) error {
	return func(s tls.ConnectionState) error {
		for _, c := range s.PeerCertificates[min(1, len(s.PeerCertificates)):] {
			sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
			if subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(pin)) != 1 {
				continue
			}
			roots := x509.NewCertPool()
			roots.AddCert(c)
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots})
			return err
		}
		return errors.New("its certificate is not of the server that the token was made by (a proxy that looks into TLS needs --ca)")
	}
}

// call sends a request and reads the answer into out. It reports false when there is none (204).
func (c *client) call(ctx context.Context, method, path string, q url.Values, in, out any, timeout time.Duration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return false, err
		}
		body = bytes.NewReader(b)
	}
	u := c.base.JoinPath(path)
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return false, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token.Bearer())
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return false, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return false, err
	}
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusNoContent:
		return false, nil
	default:
		return false, problem(res, b)
	}
	if err := json.Unmarshal(b, out); err != nil {
		return false, fmt.Errorf("answer: %w", err)
	}
	return true, nil
}

// problem makes an error of an answer.
func problem(res *http.Response, body []byte) error {
	var p struct {
		Detail string `json:"detail"`
	}
	_ = json.Unmarshal(body, &p)
	if p.Detail == "" {
		p.Detail = res.Status
	}
	switch s := res.StatusCode; {
	case s == http.StatusGone:
		return errUnregistered
	case s == http.StatusUnauthorized || s == http.StatusForbidden || s == http.StatusConflict || s == http.StatusUnprocessableEntity || s == http.StatusNotFound:
		return fmt.Errorf("%w: %s", errRefused, p.Detail)
	}
	return errors.New(p.Detail)
}

// Client returns how to reach a server's side of agents with a token: an HTTP client that trusts what an agent would, and the URL that paths
// stand behind.
func Client(server string, token agentapi.Token, files pki.Client) (*http.Client, string, error) {
	c, err := newClient(server, token, files)
	if err != nil {
		return nil, "", err
	}
	return c.http, strings.TrimSuffix(c.base.String(), "/") + "/", nil
}
