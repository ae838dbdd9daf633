package tap

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"testing"

	"crosstap/internal/tap/groom"
)

func TestDedupOfOneInterfaceIsWarnedOf(t *testing.T) {
	f := func(flags string, want int, interfaces ...string) {
		t.Helper()
		g, err := groom.Parse(flags)
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		s := DefaultSpec()
		s.Interfaces, s.Groom, s.Stdout = interfaces, &g, io.Discard
		s.To, s.Log = []string{"null:frames"}, slog.New(slog.NewTextHandler(&log, nil))
		if _, err := New(s); err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(log.String(), "dedup will find nothing"); got != want {
			t.Errorf("%s on %v: %d warnings, want %d: %s", flags, interfaces, got, want, log.String())
		}
	}
	f("dedup", 1, "eth0")
	f("dedup", 0, "eth0", "eth1")
	f("dedup/same-point", 0, "eth0")
	f("strip=vxlan,dedup", 0, "eth0")
	f("repair", 0, "eth0")
}
