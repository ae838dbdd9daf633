//go:build !agent

package main

import (
	"bytes"
	"io"
	"time"

	"crosstap/internal/answer"
	"crosstap/internal/nearest"
)

// printDocument writes a document of this process as a table, JSON or YAML.
func printDocument(w io.Writer, format string, doc any) error {
	var body bytes.Buffer
	if err := answer.JSON(&body, doc); err != nil {
		return err
	}
	switch format {
	case "table":
		return answer.Table(w, doc, answer.Options{Location: time.Local, Now: time.Now()})
	case "json":
		_, err := w.Write(body.Bytes())
		return err
	case "yaml":
		return answer.YAML(w, body.Bytes())
	}
	words := []string{"table", "json", "yaml"}
	return usagef("-o %q: expected table, json or yaml%s", format, nearest.Behind(format, words))
}
