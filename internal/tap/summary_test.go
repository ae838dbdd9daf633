package tap

import (
	"testing"

	"crosstap/internal/tap/export"
)

func TestCollectorText(t *testing.T) {
	f := func(st export.Status, want string) {
		t.Helper()
		if got := collectorText(&st); got != want {
			t.Errorf("\n%s\nwant\n%s", got, want)
		}
	}
	f(export.Status{Messages: 3, Bytes: 400}, "3 messages, 400 bytes")
	f(export.Status{Messages: 3, Bytes: 400, Connections: 2, Repeated: 7, SpoolRecords: 20, Waiting: 1, LastError: "connection refused"},
		"3 messages, 400 bytes, 2 connections; 1 messages not acknowledged; 20 records wait in the spool; 7 records sent again after a connection broke; last error: connection refused")
	f(export.Status{Messages: 3, Bytes: 400, Refused: 2, Omitted: 5},
		"3 messages, 400 bytes; 2 times nobody listened; 5 records without their tunnel's endpoints (the format has no place for them)")
}
