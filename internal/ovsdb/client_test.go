//go:build linux

package ovsdb_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/ovsdb"
	"crosstap/internal/ovsdb/ovstest"
	"crosstap/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func endpoint(db *ovstest.DB) ovsdb.Endpoint { return ovsdb.Endpoint{Address: "unix:" + db.Socket()} }

func dial(t *testing.T, e ovsdb.Endpoint) *ovsdb.Conn {
	t.Helper()
	c, err := ovsdb.Dial(t.Context(), e, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// What ovs-vsctl has set, we read; what we set, ovs-vsctl reads.
func TestConn(t *testing.T) {
	db := ovstest.New(t, nil)
	c, ctx := dial(t, endpoint(db)), t.Context()
	if err := c.Echo(ctx); err != nil {
		t.Error(err)
	}
	names, err := c.Databases(ctx)
	if diff := cmp.Diff([]string{"Open_vSwitch", "_Server"}, names); diff != "" || err != nil {
		t.Error(diff, err)
	}
	s, err := c.Schema(ctx, "Open_vSwitch")
	if err != nil {
		t.Fatal(err)
	}
	got := []ovsdb.ColumnType{
		s.Tables["Bridge"].Columns["name"].Type, s.Tables["Bridge"].Columns["ports"].Type, s.Tables["Interface"].Columns["ofport"].Type,
		s.Tables["Interface"].Columns["statistics"].Type,
	}
	want := []ovsdb.ColumnType{
		{Key: "string", Min: 1, Max: 1}, {Key: "uuid", RefTable: "Port", Max: -1}, {Key: "integer", Max: 1}, {Key: "string", Value: "integer", Max: -1},
	}
	if diff := cmp.Diff(want, got); diff != "" || s.Tables["Bridge"].IsRoot || !s.Tables["Open_vSwitch"].IsRoot {
		t.Error(diff)
	}

	db.Vsctl("--no-wait add-br br0 -- set bridge br0 external_ids:a=b external_ids:c=d flood_vlans=1,2")
	res, err := c.Transact(ctx, "Open_vSwitch",
		ovsdb.Select("Bridge", []ovsdb.Condition{ovsdb.Equal("name", "br0")}, "_uuid", "external_ids", "flood_vlans", "ports"),
		ovsdb.Comment("crosstap: test"))
	if err != nil || len(res) != 2 || len(res[0].Rows) != 1 {
		t.Fatalf("%v, %v", res, err)
	}
	br := res[0].Rows[0]
	if diff := cmp.Diff(map[string]string{"a": "b", "c": "d"}, br.TextMap("external_ids")); diff != "" || len(br.UUIDs("ports")) != 1 || len(br.Ints("flood_vlans")) != 2 {
		t.Error(diff, br)
	}
	where := []ovsdb.Condition{ovsdb.Equal("_uuid", br.UUID("_uuid"))}
	res, err = c.Transact(ctx, "Open_vSwitch",
		ovsdb.Insert("Mirror", "m", ovsdb.Row{"name": "all", "select_all": true, "external_ids": map[string]string{"owner": "crosstap"}}),
		ovsdb.Mutate("Bridge", where, ovsdb.Mutation{Column: "mirrors", Mutator: "insert", Value: ovsdb.NamedUUID("m")}),
		ovsdb.Update("Bridge", where, ovsdb.Row{"flood_vlans": ovsdb.Set{int64(7)}}),
		ovsdb.Wait("Bridge", where, []string{"name"}, "==", []ovsdb.Row{{"name": "br0"}}, 0))
	if err != nil || res[0].UUID == "" || res[1].Count != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	if got := db.Vsctl("get mirror all select_all external_ids") + db.Vsctl("get bridge br0 flood_vlans mirrors"); got != "true\n{owner=crosstap}[7]\n["+string(res[0].UUID)+"]" {
		t.Errorf("ovs-vsctl reads %q", got)
	}
}

// A transaction that fails does nothing and says where.
func TestTransactFails(t *testing.T) {
	db := ovstest.New(t, nil)
	c := dial(t, endpoint(db))
	f := func(index int, op, why string, ops ...ovsdb.Operation) {
		t.Helper()
		_, err := c.Transact(t.Context(), "Open_vSwitch", ops...)
		var e *ovsdb.OperationError
		if !errors.As(err, &e) || e.Index != index || e.Op != op || e.Err != why {
			t.Errorf("%v", err)
		}
	}
	bridge := ovsdb.Insert("Bridge", "", ovsdb.Row{"name": "br9"})
	f(1, "abort", "aborted", bridge, ovsdb.Operation{"op": "abort"})
	f(0, "wait", "timed out", ovsdb.Wait("Bridge", nil, []string{"name"}, "!=", nil, 0))
	f(2, "commit", "constraint violation", bridge, ovsdb.Insert("Open_vSwitch", "", nil)) // a second row where one is the most
	f(0, "insert", "constraint violation", ovsdb.Insert("Bridge", "", ovsdb.Row{"fail_mode": "often"}))
	if n, err := c.Transact(t.Context(), "Open_vSwitch", ovsdb.Select("Bridge", nil)); err != nil || len(n[0].Rows) != 0 {
		t.Errorf("%v, %v", n, err)
	}
	if _, err := c.Transact(t.Context(), "Open_vSwitch", ovsdb.Insert("Bridge", "", ovsdb.Row{"name": []byte{}})); err == nil || !strings.Contains(err.Error(), "column name") {
		t.Errorf("%v", err)
	}
	var refused *ovsdb.RPCError
	if err := c.Call(t.Context(), "fly", nil, nil); !errors.As(err, &refused) || refused.Err != "unknown method" || refused.Method != "fly" {
		t.Errorf("%v", err)
	}
	if _, err := c.Schema(t.Context(), "none"); err == nil {
		t.Error("no error for a database that is not there")
	}
}

// follower is a running client and the changes that it told.
type follower struct {
	*ovsdb.Client
	t       *testing.T
	changes chan []ovsdb.Change
	end     func()
}

func follow(t *testing.T, c ovsdb.ClientConfig) *follower {
	t.Helper()
	f := &follower{t: t, changes: make(chan []ovsdb.Change, 1000)}
	c.Changed = func(ch []ovsdb.Change) { f.changes <- ch }
	var err error
	if f.Client, err = ovsdb.NewClient(c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	f.end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(f.end)
	f.ready()
	return f
}

func (f *follower) ready() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	if err := f.Ready(ctx); err != nil {
		f.t.Fatal(err)
	}
}

// until collects changes of a table until one of them is as wanted.
func (f *follower) until(want func(ovsdb.Change) bool) ovsdb.Change {
	f.t.Helper()
	timeout := time.After(time.Minute)
	for {
		select {
		case list := <-f.changes:
			for _, c := range list {
				if want(c) {
					return c
				}
			}
		case <-timeout:
			f.t.Fatal("the change does not come")
		}
	}
}

func config(db *ovstest.DB) ovsdb.ClientConfig {
	c := ovsdb.DefaultClientConfig()
	c.Endpoint = endpoint(db)
	c.MinBackoff = 10 * time.Millisecond
	c.Monitor = []ovsdb.TableMonitor{
		{Table: "Bridge", Columns: []string{"name", "ports", "external_ids", "flood_vlans"}},
		{Table: "Interface", Where: []ovsdb.Condition{{Column: "type", Function: "!=", Value: "internal"}}},
	}
	return c
}

// The copy follows what ovs-vsctl does: rows come, change (sets and maps are told as differences) and go.
func TestClientFollows(t *testing.T) {
	db := ovstest.New(t, nil)
	db.Vsctl("--no-wait add-br br0")
	f := follow(t, config(db))
	if _, r, ok := f.Find("Bridge", "name", "br0"); !ok || len(r.UUIDs("ports")) != 1 {
		t.Errorf("first copy: %v", f.Rows("Bridge"))
	}
	db.Vsctl("--no-wait add-port br0 p1 -- set bridge br0 external_ids:a=b external_ids:c=d flood_vlans=1,2,3")
	c := f.until(func(c ovsdb.Change) bool { return c.Table == "Bridge" && len(c.New.UUIDs("ports")) == 2 })
	if c.Old.Text("name") != "br0" || len(c.Old.UUIDs("ports")) != 1 {
		t.Errorf("before: %v", c.Old)
	}
	db.Vsctl("--no-wait set bridge br0 external_ids:a=B flood_vlans=3,4 -- remove bridge br0 external_ids c")
	c = f.until(func(c ovsdb.Change) bool { return c.Table == "Bridge" && len(c.New.TextMap("external_ids")) == 1 })
	if diff := cmp.Diff(map[string]string{"a": "B"}, c.New.TextMap("external_ids")); diff != "" || fmt.Sprint(c.New.Ints("flood_vlans")) != "[3 4]" {
		t.Error(diff, c.New)
	}
	if _, r, ok := f.Find("Interface", "name", "p1"); !ok || len(f.Rows("Interface")) != 1 || r.Text("type") != "" {
		t.Errorf("interfaces: %v", f.Rows("Interface"))
	}
	db.Vsctl("--no-wait del-port p1")
	c = f.until(func(c ovsdb.Change) bool { return c.Table == "Interface" && c.New == nil })
	if c.Old.Text("name") != "p1" || f.Row("Interface", c.UUID) != nil {
		t.Errorf("gone: %+v", c)
	}
	// What the copy has now is what a fresh client reads.
	fresh := follow(t, config(db))
	if diff := cmp.Diff(fresh.Rows("Bridge"), f.Rows("Bridge")); diff != "" {
		t.Error(diff)
	}
}

// The server goes away, its database changes meanwhile, and it comes back: only what is different is told.
func TestClientReconnects(t *testing.T) {
	db := ovstest.New(t, nil)
	db.Vsctl("--no-wait add-br br0 -- add-br br1")
	f := follow(t, config(db))
	f.until(func(c ovsdb.Change) bool { return c.New.Text("name") == "br1" || c.New.Text("name") == "br0" })
	db.Stop()
	for f.Connected() {
		time.Sleep(time.Millisecond)
	}
	if len(f.Rows("Bridge")) != 2 {
		t.Errorf("the copy stays: %v", f.Rows("Bridge"))
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := f.Ready(short); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "db.sock") {
		t.Errorf("Ready: %v", err)
	}
	db.Start()
	db.Vsctl("--no-wait del-br br1 -- add-br br2")
	f.ready()
	gone, came := false, false
	f.until(func(c ovsdb.Change) bool {
		gone = gone || c.New == nil && c.Old.Text("name") == "br1"
		came = came || c.Old == nil && c.New.Text("name") == "br2"
		if c.Table == "Bridge" && (c.Old.Text("name") == "br0" || c.New.Text("name") == "br0") {
			t.Errorf("told although nothing changed: %+v", c)
		}
		return gone && came
	})
}

// A table that is not there is found at the first session, and ends Run.
func TestClientSchema(t *testing.T) {
	db := ovstest.New(t, nil)
	f := func(m ovsdb.TableMonitor, want string) {
		t.Helper()
		c := config(db)
		c.Monitor = append(c.Monitor, m)
		client, err := ovsdb.NewClient(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := client.Run(t.Context()); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%v", err)
		}
	}
	f(ovsdb.TableMonitor{Table: "Bridges"}, "has no table Bridges")
	f(ovsdb.TableMonitor{Table: "Bridge", Columns: []string{"name", "colour"}}, "has no column colour")
}

func TestClientRefuses(t *testing.T) {
	f := func(address, want string) {
		t.Helper()
		c := ovsdb.DefaultClientConfig()
		c.Address = address
		if _, err := ovsdb.NewClient(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", address, err)
		}
	}
	f("", "want unix:PATH")
	f("/run/db.sock", "want unix:PATH")
	f("pipe:x", "want unix:PATH")
	f("unix:", "want unix:PATH")
	f("ssl:h", "ssl needs a certificate")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ovsdb.Dial(ctx, ovsdb.Endpoint{Address: "tcp:127.0.0.1"}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// A server of our own for what a real one does not do.
func hostile(t *testing.T, serve func(net.Conn)) ovsdb.Endpoint {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(c)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return ovsdb.Endpoint{Address: "tcp:" + l.Addr().String(), MaxMessage: 1000}
}

func TestHostileServer(t *testing.T) {
	f := func(say, want string) {
		t.Helper()
		c := dial(t, hostile(t, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1000))
			fmt.Fprint(c, say)
			_, _ = c.Read(make([]byte, 1)) // until the client ends the session
		}))
		if err := c.Echo(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20s: %v", say, err)
		}
	}
	f(`{"id":1,"result":["`+strings.Repeat("x", 1000), "message of more than 1000 bytes")
	f("HTTP/1.1 400 Bad Request", "does not speak JSON-RPC")
	f(`{"id":1,,}`, "invalid character")
	f(`{"id":1,"result":null,"error":{"error":"no","details":"never"}}`, "never")
	f(strings.Repeat("[", 900)+strings.Repeat("]", 900), "more than 1000 bytes")
}

// The server's echo is answered; a call ends with its context; answers nobody waits for are passed over.
func TestEchoAndContext(t *testing.T) {
	answered := make(chan string, 1)
	c := dial(t, hostile(t, func(c net.Conn) {
		d := json.NewDecoder(c)
		var call, echo map[string]any
		_ = d.Decode(&call)
		fmt.Fprint(c, `{"id":"x","result":[]}{"id":77,"result":[]}{"id":"e1","method":"echo","params":["hi"]}`)
		_ = d.Decode(&echo)
		answered <- fmt.Sprint(echo)
		_, _ = c.Read(make([]byte, 1))
	}))
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- c.Echo(ctx) }()
	if got := <-answered; got != "map[error:<nil> id:e1 result:[hi]]" {
		t.Errorf("answer to the echo: %s", got)
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// A server that says nothing any more is given up.
func TestSilentServer(t *testing.T) {
	sessions := make(chan struct{}, 100)
	c := ovsdb.DefaultClientConfig()
	c.Endpoint = hostile(t, func(c net.Conn) {
		select {
		case sessions <- struct{}{}:
		default: // a busy machine may begin many before one is ready
		}
		d := json.NewDecoder(c)
		for {
			var call struct{ ID, Method any }
			if d.Decode(&call) != nil {
				return
			}
			if call.Method == "get_schema" {
				fmt.Fprintf(c, `{"id":%v,"result":{"name":"x","version":"1","tables":{}},"error":null}`, call.ID)
			}
		}
	})
	c.Probe, c.MinBackoff, c.MaxBackoff = 100*time.Millisecond, time.Millisecond, time.Millisecond
	f := follow(t, c)
	for range 3 {
		<-sessions
	}
	f.end()
}

// TCP with the default port's form, and TLS with certificates on both sides.
func TestTransports(t *testing.T) {
	dir := t.TempDir()
	openssl := testkit.Tool(t, "openssl")
	for _, script := range []string{
		"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.crt",
		"openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout s.key -out s.csr",
		"printf subjectAltName=DNS:localhost > ext; openssl x509 -req -in s.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out s.crt",
	} {
		cmd := exec.Command("sh", "-ec", strings.ReplaceAll(script, "openssl", openssl))
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", script, err, out)
		}
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	tcp, ssl := strconv.Itoa(testkit.Port(t)), strconv.Itoa(testkit.Port(t))
	ovstest.New(t, nil, "--remote=ptcp:"+tcp+":127.0.0.1", "--remote=pssl:"+ssl+":127.0.0.1",
		"--private-key="+file("s.key"), "--certificate="+file("s.crt"), "--ca-cert="+file("ca.crt"))
	pool := x509.NewCertPool()
	ca, err := os.ReadFile(file("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool.AppendCertsFromPEM(ca)
	pair, err := tls.LoadX509KeyPair(file("s.crt"), file("s.key"))
	if err != nil {
		t.Fatal(err)
	}
	f := func(e ovsdb.Endpoint, want string) {
		t.Helper()
		c, err := ovsdb.Dial(t.Context(), e, nil)
		if err == nil {
			defer c.Close()
			err = c.Echo(t.Context())
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", e.Address, err)
		}
	}
	f(ovsdb.Endpoint{Address: "tcp:127.0.0.1:" + tcp}, "")
	both := &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}
	f(ovsdb.Endpoint{Address: "ssl:localhost:" + ssl, TLS: both}, "")
	f(ovsdb.Endpoint{Address: "ssl:127.0.0.1:" + ssl, TLS: both}, "127.0.0.1")
	f(ovsdb.Endpoint{Address: "ssl:localhost:" + ssl, TLS: &tls.Config{}}, "unknown authority")
}
