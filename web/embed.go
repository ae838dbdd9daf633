// Package web carries the built console: the files that Vite writes into dist, embedded as they are, and a
// handler that serves them. The build is reproducible ("npm run build" twice gives the same bytes), so dist is
// committed and building crosstap needs no node.
package web

import (
	"bytes"
	"embed"
	"io/fs"
	"strings"
)

//go:embed all:dist
var embedded embed.FS

// Dist is the built console, with index.html at its root. Files below assets/ have a content hash in their names
// and never change.
var Dist = must(fs.Sub(embedded, "dist"))

var index = must(fs.ReadFile(Dist, "index.html"))

// baseElement is what the console finds its own root by. Everything it asks for is relative to it, so it works
// below any path prefix that a proxy adds.
const baseElement = `<base href="./" />`

// Page gives the console's document for a request path below the mount point, such as "/tenants/pairs": index.html
// with the base element pointing as many steps up as the path is deep.
func Page(path string) []byte {
	depth := strings.Count(strings.TrimPrefix(path, "/"), "/")
	if depth == 0 {
		return index
	}
	up := `<base href="` + strings.Repeat("../", depth) + `" />`
	return bytes.Replace(index, []byte(baseElement), []byte(up), 1)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic("web: embedded console: " + err.Error())
	}
	return v
}
