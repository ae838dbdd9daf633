//go:build !linux

package doctor

import (
	"context"
	"errors"
	"io"
	"runtime"
)

// host says that only collecting works here.
func (r *report) host(context.Context) {
	r.missing("capture", "live capture", "not on "+runtime.GOOS, "live capture", "tap on Linux; reading files, collecting and the console work here", "tap", "demo")
}

// Probe is for Linux only.
func Probe(io.Writer) error { return errors.New("doctor: kernel probes are for Linux") }

func freeBytes(string) (uint64, bool) { return 0, false }
