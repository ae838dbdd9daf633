package collect

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// TestStateNotWritten: a disk that stays full is told once in a while, not each second.
func TestStateNotWritten(t *testing.T) {
	var log bytes.Buffer
	c := &Collector{cfg: Config{Log: slog.New(slog.NewTextHandler(&log, nil))}}
	c.warn(nil)
	for range 100 {
		c.warn(errors.New("no space left on device"))
	}
	if n := strings.Count(log.String(), "no space left"); n != 1 {
		t.Errorf("told %d times: %s", n, &log)
	}
	c.warned.Add(-int64(warnEvery))
	c.warn(errors.New("no space left on device"))
	if n := strings.Count(log.String(), "no space left"); n != 2 {
		t.Errorf("told %d times in two minutes", n)
	}
}
