package agent

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/agentapi"
)

// TestFailing finds the destinations that take nothing, and not those that take something again.
func TestFailing(t *testing.T) {
	at := time.Now()
	taps := []agentapi.Tap{{Name: "web", To: []agentapi.Destination{
		{URL: "pcapng:/full/x?size=1GiB", Error: "no space left on device", ErrorAt: &at}, {URL: "ipfix://c", Error: "connection refused", ErrorAt: &at, Recovered: &at}, {URL: "vxlan://h"},
	}}}
	if diff := cmp.Diff([]string{"tap web: pcapng:/full/x takes nothing: no space left on device"}, failing(taps)); diff != "" {
		t.Error(diff)
	}
}
