package agent

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crosstap/internal/agentapi"
	"crosstap/internal/tapspec"
)

// desk is a hub behind HTTP.
type desk struct {
	t      *testing.T
	hub    *Hub
	tokens *TokenFile
	url    string
}

func newDesk(t *testing.T, dir string) *desk {
	t.Helper()
	tokens, err := OpenTokens(TokenPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	c := DefaultConfig()
	c.Dir, c.Tokens, c.Wait = filepath.Join(dir, "agents"), tokens, 50*time.Millisecond
	h, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h.Handler())
	t.Cleanup(srv.Close)
	return &desk{t, h, tokens, srv.URL + agentapi.Base}
}

func (d *desk) token(g Grant, life time.Duration) string {
	d.t.Helper()
	token, err := d.tokens.Create(g, life)
	if err != nil {
		d.t.Fatal(err)
	}
	return token.Bearer()
}

// ask sends a request, and returns its status and what the answer says.
func (d *desk) ask(token, method, path, body string, out any) (int, string) {
	d.t.Helper()
	req, _ := http.NewRequest(method, d.url+path, strings.NewReader(body))
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer res.Body.Close()
	var b bytes.Buffer
	_, _ = b.ReadFrom(res.Body)
	if out != nil && res.StatusCode == http.StatusOK {
		if err := json.Unmarshal(b.Bytes(), out); err != nil {
			d.t.Fatalf("%s: %v", b.String(), err)
		}
	}
	return res.StatusCode, b.String()
}

func registration(name, instance string, payload bool) string {
	b, _ := json.Marshal(agentapi.Registration{Version: 1, Name: name, Instance: instance, Host: "host-" + instance, Payload: payload})
	return string(b)
}

func headers(name string) tapspec.Spec {
	return tapspec.Spec{Name: name, Source: tapspec.Source{Interfaces: []string{"eth0"}}, To: []tapspec.To{{URL: "ipfix://10.0.0.1"}}}
}

func payload(name string) tapspec.Spec {
	s := headers(name)
	s.To[0].URL = "vxlan://10.0.0.1?vni=1"
	return s
}

// TestHub takes an agent from its registration to its report, over a restart of the server.
func TestHub(t *testing.T) {
	dir := t.TempDir()
	d := newDesk(t, dir)
	token, operator := d.token(Grant{Role: agentapi.RoleAgent}, 0), d.token(Grant{Role: agentapi.RoleOperator}, 0)
	if err := d.hub.Put("h1", []tapspec.Spec{headers("a")}); err != nil {
		t.Fatal(err)
	}
	if a, _ := d.hub.Agent("h1"); a.State != Expected || len(a.Given) != 1 {
		t.Errorf("%+v", a)
	}
	var w agentapi.Welcome
	if code, text := d.ask(token, "POST", "register", registration("h1", "x", true), &w); code != 200 || w.Payload || w.Lease != tapspec.Duration(5*time.Minute) {
		t.Fatalf("%d %s", code, text)
	}
	var o agentapi.Orders
	if code, text := d.ask(token, "GET", "taps?name=h1&instance=x", "", &o); code != 200 || len(o.Taps) != 1 || o.Taps[0].Name != "a" {
		t.Fatalf("%d %s", code, text)
	}
	if code, text := d.ask(token, "GET", "taps?name=h1&instance=x&have="+o.Revision, "", nil); code != http.StatusNoContent {
		t.Errorf("nothing new: %d %s", code, text)
	}
	doc := `{"taps": [{"name": "b", "source": {"interfaces": ["eth0"]}, "to": [{"url": "null:"}]}]}`
	var given struct{ State string }
	if code, text := d.ask(operator, "PUT", "agents/h1/taps", doc, &given); code != 200 || given.State != Online {
		t.Errorf("%d %s", code, text)
	}
	if code, text := d.ask(operator, "PUT", "agents/mistyped/taps", doc, &given); code != 200 || given.State != Expected {
		t.Errorf("%d %s", code, text)
	}
	if err := d.hub.Forget("mistyped"); err != nil {
		t.Error(err)
	}
	report, _ := json.Marshal(agentapi.Report{Name: "h1", Instance: "x", Revision: o.Revision, CPU: 0.5, Taps: []agentapi.Tap{{Name: "a", State: agentapi.StateRunning}}})
	var rec agentapi.Receipt
	if code, text := d.ask(token, "POST", "report", string(report), &rec); code != 200 || rec.Register {
		t.Errorf("%d %s", code, text)
	}
	if a, _ := d.hub.Agent("h1"); a.State != Online || a.Current || a.CPU != 0.5 || len(a.Taps) != 1 || a.Given[0].Name != "b" {
		t.Errorf("%+v", a)
	}
	again := newDesk(t, dir)
	if taps, ok := again.hub.Taps("h1"); !ok || len(taps) != 1 || taps[0].Name != "b" {
		t.Errorf("after a restart: %+v", taps)
	}
	if code, _ := again.ask(token, "GET", "taps?name=h1&instance=x", "", &o); code != 200 || o.Taps[0].Name != "b" {
		t.Errorf("after a restart: %d %+v", code, o)
	}
	if err := again.hub.Forget("h1"); err == nil {
		t.Error("an agent that is online is forgotten")
	}
}

// TestPayload keeps payload from an agent that may not copy it, also when its token is replaced.
func TestPayload(t *testing.T) {
	d := newDesk(t, t.TempDir())
	plain, full := d.token(Grant{Role: agentapi.RoleAgent}, 0), d.token(Grant{Role: agentapi.RolePayload}, 0)
	register := func(token string, host bool) agentapi.Welcome {
		t.Helper()
		var w agentapi.Welcome
		if code, text := d.ask(token, "POST", "register", registration("h1", "x", host), &w); code != 200 {
			t.Fatalf("%d %s", code, text)
		}
		return w
	}
	if !register(full, true).Payload || register(full, false).Payload || !register(full, true).Payload {
		t.Error("the host's owner and the token's role decide together")
	}
	if err := d.hub.Put("h1", []tapspec.Spec{payload("p"), headers("q")}); err != nil {
		t.Fatal(err)
	}
	register(plain, true)
	var o agentapi.Orders
	d.ask(plain, "GET", "taps?name=h1&instance=x", "", &o)
	if len(o.Taps) != 1 || o.Taps[0].Name != "q" {
		t.Errorf("%+v", o.Taps)
	}
	if a, _ := d.hub.Agent("h1"); len(a.Findings) != 1 || !strings.Contains(a.Findings[0], agentapi.RolePayload) {
		t.Errorf("%+v", a.Findings)
	}
	operator := d.token(Grant{Role: agentapi.RoleOperator}, 0)
	doc, _ := json.Marshal(tapspec.Document{Taps: []tapspec.Spec{payload("p")}})
	if code, text := d.ask(operator, "PUT", "agents/h1/taps", string(doc), nil); code != http.StatusForbidden || !strings.Contains(text, "copies payload") {
		t.Errorf("%d %s", code, text)
	}
}

// TestRefused tries what must not be.
func TestRefused(t *testing.T) {
	d := newDesk(t, t.TempDir())
	agent, operator := d.token(Grant{Role: agentapi.RoleAgent}, 0), d.token(Grant{Role: agentapi.RoleOperator}, 0)
	f := func(token, method, path, body string, want int, text string) {
		t.Helper()
		if code, got := d.ask(token, method, path, body, nil); code != want || !strings.Contains(got, text) {
			t.Errorf("%s %s: %d %s, want %d %s", method, path, code, got, want, text)
		}
	}
	f("", "POST", "register", registration("h1", "x", false), 401, "a token is needed")
	f("crosstap1.x.y", "POST", "register", registration("h1", "x", false), 401, "not known")
	f("nonsense", "GET", "agents", "", 401, "not known")
	f(operator, "POST", "register", registration("h1", "x", false), 403, "has role operator")
	f(agent, "GET", "agents", "", 403, "needs operator")
	f(agent, "POST", "register", "{", 400, "body")
	f(agent, "POST", "register", registration("a b", "x", false), 422, "in the name")
	f(agent, "POST", "register", registration("h1", "", false), 422, "no instance")
	f(agent, "POST", "register", `{"version": 9, "name": "h1", "instance": "x"}`, 422, "upgrade the server")
	f(agent, "GET", "taps?name=h1&instance=x", "", 410, "not registered")
	f(agent, "POST", "register", registration("h1", "x", false), 200, "")
	f(agent, "POST", "register", registration("h1", "y", false), 409, "another agent of the name h1 is online, on host host-x")
	other := d.token(Grant{Role: agentapi.RoleAgent}, 0)
	f(other, "GET", "taps?name=h1&instance=x", "", 410, "not registered")
	bound := d.token(Grant{Role: agentapi.RoleAgent, Agent: "h7"}, 0)
	f(bound, "POST", "register", registration("h8", "x", false), 403, "is for agent h7")
	f(operator, "PUT", "agents/h1/taps", "taps: [{name: a}]", 422, "nothing to tap")
	f(operator, "GET", "agents/h9/taps", "", 404, "no agent")
	f(operator, "DELETE", "agents/h1", "", 422, "online")
	old := d.token(Grant{Role: agentapi.RoleOperator}, time.Nanosecond)
	f(old, "GET", "agents", "", 401, "expired")
}

// TestTokens makes, reads again and revokes.
func TestTokens(t *testing.T) {
	path := TokenPath(t.TempDir())
	a, err := OpenTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := OpenTokens(path) // another process
	token, err := a.Create(Grant{Role: agentapi.RoleAgent, Note: "kvm"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || bytes.Contains(text, []byte(token.Secret)) {
		t.Errorf("the secret is in the file: %s, %v", text, err)
	}
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 {
		t.Error(st.Mode())
	}
	if g, err := b.Check(token.Bearer()); err != nil || g.Role != agentapi.RoleAgent || g.Note != "kvm" {
		t.Errorf("%+v, %v", g, err)
	}
	if _, err := a.Create(Grant{Role: "king"}, 0); err == nil {
		t.Error("an unknown role")
	}
	if err := b.Revoke(token.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Check(token.Bearer()); err != ErrDenied {
		t.Error(err)
	}
	if err := a.Revoke(token.ID); err == nil {
		t.Error("revoked twice")
	}
}

func TestAuthority(t *testing.T) {
	path := AuthorityPath(t.TempDir())
	a, err := OpenAuthority(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := OpenAuthority(path)
	if err != nil || a.Pin() != b.Pin() || len(a.Pin()) != 43 {
		t.Errorf("%q %q, %v", a.Pin(), b.Pin(), err)
	}
	c, err := a.TLS([]string{"127.0.0.1", "srv"}).GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Leaf.CheckSignatureFrom(b.cert); err != nil {
		t.Error(err)
	}
	if c.Leaf.VerifyHostname("srv") != nil || c.Leaf.VerifyHostname("127.0.0.1") != nil {
		t.Error(c.Leaf.DNSNames, c.Leaf.IPAddresses)
	}
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenAuthority(path); err == nil {
		t.Error("a damaged file is taken")
	}
}

// TestRevokedMeanwhile revokes a token while its agent waits for taps: it gets none.
func TestRevokedMeanwhile(t *testing.T) {
	d := newDesk(t, t.TempDir())
	d.hub.cfg.Wait = time.Minute
	made, err := d.tokens.Create(Grant{Role: agentapi.RoleAgent}, 0)
	if err != nil {
		t.Fatal(err)
	}
	token := made.Bearer()
	if code, text := d.ask(token, "POST", "register", registration("h1", "x", true), nil); code != 200 {
		t.Fatalf("%d %s", code, text)
	}
	var o agentapi.Orders
	if code, text := d.ask(token, "GET", "taps?name=h1&instance=x", "", &o); code != 200 {
		t.Fatalf("%d %s", code, text)
	}
	type answer struct {
		code int
		text string
	}
	answers := make(chan answer, 1)
	go func() {
		code, text := d.ask(token, "GET", "taps?name=h1&instance=x&have="+o.Revision, "", nil)
		answers <- answer{code, text}
	}()
	time.Sleep(200 * time.Millisecond) // until it waits; when it does not yet, it is refused all the same
	if err := d.tokens.Revoke(made.ID); err != nil {
		t.Fatal(err)
	}
	if err := d.hub.Put("h1", []tapspec.Spec{headers("a")}); err != nil {
		t.Fatal(err)
	}
	if a := <-answers; a.code != http.StatusUnauthorized || !strings.Contains(a.text, "revoked") {
		t.Errorf("%d %s", a.code, a.text)
	}
}
