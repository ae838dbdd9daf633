// Package obs is what every process of crosstap says about itself: logs, version, readiness.
package obs

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"
)

// Logger returns a logger that writes text lines to w, from level info or, if verbose, debug on.
func Logger(w io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

// Notify tells the service manager about the process's state, such as "READY=1", by the protocol
// of sd_notify(3). Without NOTIFY_SOCKET in the environment it does nothing.
func Notify(state string) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	if strings.HasPrefix(name, "@") { // abstract socket
		name = "\x00" + name[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	_, err = conn.Write([]byte(state))
	if err = errors.Join(err, conn.Close()); err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	return nil
}

// version is set by the linker for a release: -X crosstap/internal/obs.version=v1.2.3.
var version string

// Build says what binary this is.
type Build struct {
	Version  string `json:"version"`
	Revision string `json:"revision"` // of the source, "" when not known
	Modified bool   `json:"modified"` // built from a changed tree
	Go       string `json:"go"`
	Platform string `json:"platform"`
	CGO      bool   `json:"cgo"`
}

// Version returns the facts about this binary.
func Version() Build {
	b := Build{Version: version}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Go = info.GoVersion
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	b.Revision = settings["vcs.revision"]
	b.Modified = settings["vcs.modified"] == "true"
	b.CGO = settings["CGO_ENABLED"] == "1"
	b.Platform = settings["GOOS"] + "/" + settings["GOARCH"]
	if b.Version == "" {
		b.Version = "devel"
	}
	return b
}
