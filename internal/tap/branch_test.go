package tap_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/tap"
	"crosstap/internal/testkit"
)

// TestOwnFilters gives files filters and groom steps of their own; the numbers of frames are those of
// "tcpdump -r afs.pcap EXPR".
func TestOwnFilters(t *testing.T) {
	dir := t.TempDir()
	to := []string{
		"pcapng:" + dir + "/long.pcapng?filter=greater 500&groom=slice=100",
		"pcap:" + dir + "/short.pcap?filter=less%20499",
		"pcapng:" + dir + "/none.pcapng?filter=tcp",
		"pcapng:" + dir + "/all.pcapng?frames=200",
	}
	line, err := through(t, testkit.Corpus(t, "tap/tcpdump/afs.pcap"), func(s *tap.Spec) { s.To = to })
	must(t, err)
	want := []string{
		to[0] + ": 601 frames = 270 filtered + 331 delivered",
		to[1] + ": 601 frames = 331 filtered + 270 delivered",
		to[2] + ": 601 frames = 601 filtered + 0 delivered",
		to[3] + ": 601 frames = 601 delivered",
	}
	if diff := cmp.Diff(want, line.Deliveries()); diff != "" {
		t.Errorf("(-want, +got)\n%s", diff)
	}
	long, _ := frames(t, dir+"/long.pcapng")
	for _, f := range long {
		if len(f.Data) != 100 || f.OrigLen < 500 {
			t.Fatalf("%d of %d bytes", len(f.Data), f.OrigLen)
		}
	}
	if names, _ := filepath.Glob(dir + "/all-*.pcapng"); len(names) != 4 {
		t.Error(names)
	}
}

// TestOneDestination adds a destination's own steps to the sum of the run.
func TestOneDestination(t *testing.T) {
	line, err := through(t, testkit.Corpus(t, "tap/tcpdump/afs.pcap"), func(s *tap.Spec) {
		s.Filter, s.To = "udp", []string{"pcapng:" + t.TempDir() + "/long.pcapng?filter=greater 500"}
	})
	must(t, err)
	if got := line.Ledger(); !strings.HasPrefix(got, "601 frames read = ") || strings.Contains(got, "broke off") || !strings.HasSuffix(got, " + 324 delivered") {
		t.Error(got)
	}
}

func TestOwnMistakes(t *testing.T) {
	f := func(to, want string) {
		t.Helper()
		s := tap.DefaultSpec()
		s.Interfaces, s.To = []string{"lo"}, []string{to}
		if _, err := tap.New(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", to, err, want)
		}
	}
	f("vxlan://h?filter=tcp prot 80", "filter")
	f("vxlan://h?groom=slyce=1", "slyce")
	f("vxlan://h?groom=balance=2", "balance chooses between destinations")
	f("pcapng:x?filter=%zz", "invalid URL escape")
	f("pcapng:x?rotate=1", `option "rotate" is not known`)
	f("tls://h", "want tls://HOST:PORT")
	f("tls://h:1?cert=x", "one of them is missing")
	f("erspan2://h", "want session=1 to 1023")
}
