package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// write puts text into a file named crosstap.yaml and returns its path.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "crosstap.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoad(t *testing.T) {
	path := write(t, `# a comment
data: /srv/flows
http: 127.0.0.1:1   # overruled by the variable
flows:
  - 127.0.0.1:2055
  - "[::1]:4739"
flush: 5s
query-memory: 128MiB
keep-size: 1000
verbose: true
`)
	s, from, warnings, err := Load(Sources{
		File:  path,
		Env:   []string{"CROSSTAP_HTTP=127.0.0.1:2", "CROSSTAP_QUERY_TIMEOUT=9s", "CROSSTAP_FLUHS=1s", "CROSSTAP_SERVER=x", "HOME=/", "CROSSTAP_KEEP="},
		Flags: map[string][]string{"flush": {"1s", "3s"}, "http-host": {"a,b", "c"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{
		Data: "/srv/flows", HTTP: "127.0.0.1:2", HTTPHosts: []string{"a", "b", "c"}, Flows: []string{"127.0.0.1:2055", "[::1]:4739"},
		QueryMemory: 128 << 20, QueryTimeout: 9 * time.Second, Flush: 3 * time.Second, KeepRollups: 9600 * time.Hour, KeepSize: 1000, Verbose: true,
		FlowsRemembered: 1 << 18, AgentsLease: 5 * time.Minute, ControlOwner: "crosstap", Role: RoleAll, BusSize: 10e9,
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	origins := Origins{
		"data": path + ":2", "http": "CROSSTAP_HTTP", "http-host": "--http-host", "flows": path + ":4", "inventory": "default", "query-memory": path + ":8",
		"query-timeout": "CROSSTAP_QUERY_TIMEOUT", "flush": "--flush", "keep": "default", "keep-rollups": "default", "keep-size": path + ":9", "verbose": path + ":10",
		"exporters": "default", "flows-allow": "default", "flows-buffer": "default", "flows-cert": "default", "flows-client-ca": "default", "flows-key": "default",
		"flows-sockets": "default", "flows-remembered": "default", "outputs": "default", "elements": "default",
		"agents": "default", "agents-cert": "default", "agents-key": "default", "agents-lease": "default", "control-owner": "default", "role": "default", "store": "default",
		"bus": "default", "bus-listen": "default", "bus-size": "default",
	}
	if diff := cmp.Diff(origins, from); diff != "" {
		t.Errorf("origins (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{`variable CROSSTAP_FLUHS means nothing here; did you mean "CROSSTAP_FLUSH"?`}, warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestMistakes(t *testing.T) {
	f := func(text string, want ...string) {
		t.Helper()
		_, _, _, err := Load(Sources{File: write(t, text)})
		if err == nil {
			t.Fatalf("%q: no error", text)
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q: want %q in %q", text, w, err)
			}
		}
	}
	f("dta: x\n", `crosstap.yaml:1:1: unknown key "dta"; did you mean "data"?`)
	f("http: 127.0.0.1:1\n\nqurey-memory: 1\nzzzzzz: 2", `:3:1: unknown key "qurey-memory"; did you mean "query-memory"?`, `:4:1: unknown key "zzzzzz"`)
	f("data: a\ndata: b\n", `:2:1: key "data" stands in line 1 already`)
	f("data: [a, b]\n", "data: expected one value")
	f("data: {a: b}\n", "data: expected one value")
	f("data: null\n", "data: expected one value")
	f("flows: {a: b}\n", "flows: expected a value or a list")
	f("flush: fast\n", `:1: flush: "fast": expected a duration`)
	f("flush: -1s\n", "expected a duration")
	f("flush: 1h\n", ":1: flush: 1h0m0s: expected")
	f("http: localhost:8474\n", `:1: http: address "localhost:8474": expected IP:PORT`)
	f("flows: 4739\n", "flows: address")
	f("flows: upd://127.0.0.1:1\n", `transport "upd": expected one of udp, tcp, tls, dtls; did you mean "udp"?`)
	f("flows: tls://127.0.0.1:4740\n", "a certificate and its key are needed")
	f("flows-allow: [10.0.0.0/8, 10.0.0]\n", `flows-allow: "10.0.0": expected an address or a network`)
	f("flows-remembered: 100\n", "flows-remembered: 100: expected 1024 to 268435456")
	f("flows-sockets: 65\n", "flows-sockets: 65: expected 0 to 64")
	f("flows-sockets: x\n", "expected a number")
	f("flows-buffer: 1KiB\n", "expected 4KiB to 1GiB")
	f("exporters: /nonexistent.yaml\n", ":1: exporters: open /nonexistent.yaml: no such file")
	f("query-memory: lots\n", "expected a size")
	f("query-memory: 1MiB\n", "at least 32MiB")
	f("keep: 5m\n", "at least 1h")
	f("verbose: maybe\n", "expected true or false")
	f("http: nowhere\nagents: foo\nflows: [0.0.0.0:99999]\nkeep: 5m\nquery-memory: 1MiB\n", ":1: http: address", ":2: agents: address", ":3: flows: address", ":4: keep: 5m0s", ":5: query-memory: 1MiB")
	f("http: nowhere\nzzzzzz: 2\nkeep: 5x\n", ":2:1: unknown key", ":3: keep:")
	f("- a\n", "expected keys and values")
	f("just text", "expected keys and values")
	f("a: b: c\n", "crosstap.yaml:1:")
	f("data: x\n---\ndata: y\n", "2 documents, want one")
	f("data: \"\"\n", "data: a store directory is needed")
	if _, _, _, err := Load(Sources{File: "absent.yaml"}); err == nil {
		t.Error("an absent file is no error")
	}
	if _, _, _, err := Load(Sources{File: write(t, "# nothing\n")}); err != nil {
		t.Error(err)
	}
	if _, _, _, err := Load(Sources{Flags: map[string][]string{"flush": {"x"}}}); err == nil || !strings.Contains(err.Error(), "--flush") {
		t.Error(err)
	}
}

func TestSize(t *testing.T) {
	f := func(text string, n int64, back string) {
		t.Helper()
		got, err := ParseSize(text)
		if err != nil || got != n || sizeText(n) != back {
			t.Errorf("%q: %d %q %v", text, got, sizeText(got), err)
		}
	}
	f("0", 0, "0")
	f("128MiB", 128<<20, "128MiB")
	f("1.5 GiB", 3<<29, "1536MiB")
	f("20GB", 20e9, "20GB")
	f("77", 77, "77")
	f("5B", 5, "5")
	for _, bad := range []string{"", "-1", "1XB", "GB", "1e300GB", "NaN", "InfGB"} {
		if n, err := ParseSize(bad); err == nil {
			t.Errorf("%q: %d", bad, n)
		}
	}
}

func FuzzFile(f *testing.F) {
	for _, s := range []string{"data: x\n", "flows: [a, b]\n", "a: &x b\nc: *x\n", "? [a]: b", "\x00", "data: |\n  x\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		path := write(t, text)
		_, _, _, _ = Load(Sources{File: path}) // must not panic
	})
}
