//go:build linux

package agent

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crosstap/internal/agentapi"
	server "crosstap/internal/serve/agent"
	"crosstap/internal/tapspec"
	"crosstap/internal/testkit"
)

// TestCapturesStay changes a tap that writes one file, and starts its agent again: every frame that the books have as delivered is in a file that tshark reads.
func TestCapturesStay(t *testing.T) {
	t.Parallel()
	tshark := testkit.Tool(t, "tshark")
	a, b := cable(t)
	s := newSite(t)
	state, folder, token := t.TempDir(), t.TempDir(), s.token(agentapi.RolePayload)
	stop := s.run(Config{Token: token, State: state, Files: folder})
	send := traffic(t, a)
	sp := spec(b, "pcapng:web.pcapng")
	delivered := func(x server.Agent) uint64 { return book(x, "deliver").Out }
	enough := func(x server.Agent) bool { return tapIs(agentapi.StateRunning, sp)(x) && delivered(x) > 500 }
	before := uint64(0) // of taps that have ended
	for i, filter := range []string{"udp", "ip", "ip or udp"} {
		sp.Filter = filter
		if err := s.hub.Put("h1", []tapspec.Spec{sp}); err != nil {
			t.Fatal(err)
		}
		s.wait(filter, func(x server.Agent) bool {
			return tapIs(agentapi.StateRunning, sp)(x) && delivered(x) > uint64(500*(i+1)) // the books go on from one form to the next
		})
	}
	stop()
	s.wait("books of what has ended", func(x server.Agent) bool { before = delivered(x); return true })
	s.run(Config{Token: token, State: state, Files: folder})
	s.wait("again", func(x server.Agent) bool { return x.State == server.Online && enough(x) })
	send()
	kept := uint64(0)
	for end := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		files, err := filepath.Glob(filepath.Join(folder, "web*.pcapng"))
		if err != nil {
			t.Fatal(err)
		}
		kept = 0
		for _, name := range files {
			out, _ := exec.Command(tshark, "-r", name, "-T", "fields", "-e", "frame.number").Output()
			kept += uint64(strings.Count(string(out), "\n"))
		}
		x, _ := s.hub.Agent("h1")
		if len(files) == 4 && kept >= before+delivered(x) && book(x, "deliver").Held == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d frames in %q, %d were delivered before and %d after", kept, files, before, delivered(x))
		}
	}
}
