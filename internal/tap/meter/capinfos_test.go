package meter

import (
	"bytes"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"crosstap/internal/testkit"
)

// TestCapinfos counts the frames of every capture that capinfos reads without a complaint as capinfos does, with their lengths on the wire.
// Each of these frames is in a record or in the books.
func TestCapinfos(t *testing.T) {
	all := corpusCaptures(t)
	names := slices.Sorted(maps.Keys(all))
	cmd := exec.Command(testkit.Tool(t, "capinfos"), append([]string{"-T", "-M", "-c", "-d", "-r"}, names...)...)
	cmd.Dir = testkit.CorpusDir(t)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, _ := cmd.Output() // its exit code tells of the captures that it complains of
	compared := 0
	other := map[string]string{
		"tap/libpcap-filter/pcap-invalid-version-2.pcap":  "capinfos reads a version that libpcap and we refuse",
		"tap/tcpdump/atm-oam-heapoverflow.pcap":           "capinfos takes the 4 bytes of the ATM pseudo-header off",
		"tap/tcpdump/atm-oam-loopback-print-overrun.pcap": "the same",
	}
	for line := range strings.Lines(string(out)) {
		col := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(col) != 3 || other[col[0]] != "" || strings.Contains(complaints.String(), col[0]) {
			continue
		}
		compared++
		octets := uint64(0)
		for _, f := range all[col[0]] {
			octets += uint64(f.OrigLen)
		}
		if ours := fmt.Sprintf("%d\t%d", len(all[col[0]]), octets); ours != col[1]+"\t"+col[2] {
			t.Errorf("%s: %s frames and bytes, capinfos has %s, %s", col[0], ours, col[1], col[2])
		}
	}
	if compared < 700 {
		t.Errorf("%d captures compared", compared)
	}
	t.Logf("%d of %d captures compared", compared, len(all))
}
