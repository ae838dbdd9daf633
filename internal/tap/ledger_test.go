package tap

import (
	"errors"
	"regexp"
	"testing"

	"crosstap/internal/testkit"
)

// full is a writer without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestLedgerTellsWhatWasNotWritten(t *testing.T) {
	s := DefaultSpec()
	s.File, s.Filter, s.To, s.Stdout = testkit.Corpus(t, "collect/ovs-lab/underlay1.pcap"), "udp port 4789", []string{"pcapng:-"}, full{}
	tap, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := tap.Run(t.Context()); err == nil {
		t.Error("no error")
	}
	if got := tap.Ledger(); !regexp.MustCompile(`^\d+ frames read = .*\d+ write failed \+ 0 delivered$`).MatchString(got) {
		t.Error(got)
	}
}
