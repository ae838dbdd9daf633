package web_test

import (
	"compress/gzip"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/web"
)

func TestPageFindsItsRoot(t *testing.T) {
	f := func(urlPath, want string) {
		t.Helper()
		if got := string(web.Page(urlPath)); !strings.Contains(got, `<base href="`+want+`" />`) {
			t.Errorf("Page(%q): no base %q in %s", urlPath, want, got)
		}
	}
	f("/", "./")
	f("", "./")
	f("/flows", "./")
	f("/tenants/pairs", "../")
	f("/tenants/pairs/", "../../")
}

func TestHandler(t *testing.T) {
	accept := "text/html,application/xhtml+xml,*/*;q=0.8" // a browser's
	f := func(method, target, encoding string, wantStatus int, wantKind string) {
		t.Helper()
		r := httptest.NewRequest(method, target, nil)
		r.Header.Set("Accept-Encoding", encoding)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		web.Handler().ServeHTTP(w, r)
		if w.Code != wantStatus || !strings.HasPrefix(w.Header().Get("Content-Type"), wantKind) {
			t.Errorf("%s %s: %d %q, want %d %q", method, target, w.Code, w.Header().Get("Content-Type"), wantStatus, wantKind)
		}
	}
	f("GET", "/", "", 200, "text/html")
	f("GET", "/tenants/pairs?v=1", "gzip", 200, "text/html")
	f("HEAD", "/flows", "", 200, "text/html")
	f("GET", "/icon.svg", "", 200, "image/svg+xml")
	f("GET", "/assets/none.js", "", 404, "text/plain")
	f("POST", "/", "", 405, "text/plain")
	accept = "*/*" // a probe's
	f("GET", "/readyz", "", 404, "text/plain")
	f("GET", "/", "", 200, "text/html")
	f("GET", entry(t), "", 200, "text/javascript")
	accept = "text/html"
	f("GET", entry(t), "gzip", 200, "text/javascript")
}

func TestHandlerCompressesAndCaches(t *testing.T) {
	get := func(header ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", entry(t), nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		web.Handler().ServeHTTP(w, r)
		return w
	}
	plain, packed := get(), get("Accept-Encoding", "br, gzip")
	z, err := gzip.NewReader(packed.Body)
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(plain.Body.String(), string(unpacked)); diff != "" {
		t.Error("compressed differs from plain")
	}
	if got := plain.Header().Get("Cache-Control"); !strings.Contains(got, "immutable") {
		t.Errorf("Cache-Control of an asset = %q, want immutable", got)
	}
	again := get("Accept-Encoding", "gzip", "If-None-Match", packed.Header().Get("ETag"))
	if again.Code != http.StatusNotModified || again.Body.Len() != 0 {
		t.Errorf("with the ETag: %d and %d bytes, want 304 and none", again.Code, again.Body.Len())
	}
}

// The budgets of the console, in gzip bytes: what is loaded at first, any later chunk, everything.
func TestBudget(t *testing.T) {
	const initialMax, chunkMax, totalMax = 80_000, 130_000, 350_000
	page := string(web.Page("/"))
	var initial, total int
	err := fs.WalkDir(web.Dist, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n := gzipped(t, name)
		total += n
		if strings.Contains(page, path.Base(name)) || name == "index.html" {
			initial += n
		}
		if n > chunkMax {
			t.Errorf("%s: %d bytes gzipped, want at most %d", name, n, chunkMax)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if initial > initialMax || total > totalMax {
		t.Errorf("initial %d, total %d bytes gzipped; want at most %d and %d", initial, total, initialMax, totalMax)
	}
	t.Logf("initial %d, total %d bytes gzipped", initial, total)
}

// entry gives the path of the script that the page starts.
func entry(t *testing.T) string {
	t.Helper()
	names, err := fs.Glob(web.Dist, "assets/index-*.js")
	if err != nil || len(names) != 1 {
		t.Fatalf("assets/index-*.js: %v, %v; want one", names, err)
	}
	return "/" + names[0]
}

func gzipped(t *testing.T, name string) int {
	t.Helper()
	b, err := fs.ReadFile(web.Dist, name)
	if err != nil {
		t.Fatal(err)
	}
	var n counter
	z := gzip.NewWriter(&n)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return int(n)
}

type counter int

func (c *counter) Write(b []byte) (int, error) { *c += counter(len(b)); return len(b), nil }
