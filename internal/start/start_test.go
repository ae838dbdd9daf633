package start

import (
	"os"
	"runtime"
	"runtime/debug"
	"testing"
)

// TestOver sees that collections and profiles of memory are as Go has them when the start is over.
func TestOver(t *testing.T) {
	if os.Getenv("GOGC") != "" {
		t.Skip("GOGC says when memory is collected")
	}
	Over()
	Over()
	if runtime.MemProfileRate == 0 {
		t.Error("no profiles of memory")
	}
	if p := debug.SetGCPercent(percent); p != percent {
		t.Errorf("memory is collected at %d %%", p)
	}
}
