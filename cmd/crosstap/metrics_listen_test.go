package main

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"crosstap/internal/agentapi"
	"crosstap/internal/testkit"
)

// TestMetricsOfTheNext serves metrics at an address that the one before leaves only later, and says so; one that stays in use is an error.
func TestMetricsOfTheNext(t *testing.T) {
	before, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var out testkit.Output
	log, none := slog.New(slog.NewTextHandler(&out, nil)), func() []agentapi.Tap { return nil }
	go func() {
		for !strings.Contains(out.String(), "in use: trying again") {
			time.Sleep(time.Millisecond)
		}
		before.Close()
	}()
	stop, err := serveMetrics(t.Context(), before.Addr().String(), log, none)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if !strings.Contains(out.String(), "free now") {
		t.Error(out.String())
	}
	synctest.Test(t, func(t *testing.T) {
		taken, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		var told bytes.Buffer
		began := time.Now()
		if _, err := serveMetrics(t.Context(), taken.Addr().String(), slog.New(slog.NewTextHandler(&told, nil)), none); err == nil || time.Since(began) < inUse ||
			strings.Count(told.String(), "in use") != 1 {
			t.Errorf("%v after %v: %s", err, time.Since(began), told.String())
		}
	})
}
