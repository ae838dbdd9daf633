package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
)

// Policy is the console's Content-Security-Policy. It loads nothing from elsewhere and runs nothing inline; images of its own making
// (blob:) are how charts become PNG files.
const Policy = "default-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'; object-src 'none'; img-src 'self' blob:"

// kinds are the media types of what Vite emits; the machine's own table is not asked.
var kinds = map[string]string{
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".svg":  "image/svg+xml",
}

// gzipMin is the size from which a file is worth compressing: below it one TCP segment carries either form.
const gzipMin = 1400

// Handler serves the console at "/": the files of Dist, and the document for every page. Files are compressed
// once, here, and kept in memory (about 0.4 MB); nothing is read from disk afterwards.
func Handler() http.Handler {
	files := map[string]*file{}
	err := fs.WalkDir(Dist, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(Dist, name)
		if err == nil {
			files["/"+name] = newFile(name, b)
		}
		return err
	})
	must(files, err)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "console: "+r.Method+": only GET and HEAD are served here", http.StatusMethodNotAllowed)
			return
		}
		f := files[r.URL.Path]
		if f == nil {
			w.Header().Add("Vary", "Accept")
		}
		page := r.URL.Path == "/" || strings.Contains(r.Header.Get("Accept"), "text/html") // a probe that asks for /readyz is no browser, and must not see 200
		if f == nil && (path.Ext(r.URL.Path) != "" || !page) {
			http.Error(w, "console: "+strconv.Quote(r.URL.Path)+": no such file; pages are for browsers, and /healthz says how the server is", http.StatusNotFound)
			return
		}
		if f == nil || r.URL.Path == "/index.html" {
			f = newFile("index.html", Page(r.URL.Path))
		}
		f.serve(w, r)
	})
}

// file is one answer, plain and compressed.
type file struct {
	kind, cache, tag string
	plain, gz        []byte // gz is nil when compressing does not pay
}

func newFile(name string, b []byte) *file {
	sum := sha256.Sum256(b)
	f := &file{kind: kinds[path.Ext(name)], cache: "no-cache", tag: `"` + hex.EncodeToString(sum[:8]) + `"`, plain: b}
	if strings.HasPrefix(name, "assets/") {
		f.cache = "public, max-age=31536000, immutable"
	}
	if z := compress(b); len(b) >= gzipMin && len(z) < len(b) {
		f.gz = z
	}
	return f
}

func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Cache-Control", f.cache)
	h.Set("Content-Security-Policy", Policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	body := f.plain
	tag := f.tag
	if f.gz != nil {
		h.Add("Vary", "Accept-Encoding")
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			h.Set("Content-Encoding", "gzip")
			body, tag = f.gz, strings.TrimSuffix(f.tag, `"`)+`-gz"`
		}
	}
	h.Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(body) // the client went away: nobody is left to tell
	}
}

func compress(b []byte) []byte {
	var out bytes.Buffer
	z := must(gzip.NewWriterLevel(&out, gzip.BestCompression))
	_, err := z.Write(b)
	must(out, err)
	must(out, z.Close())
	return out.Bytes()
}
