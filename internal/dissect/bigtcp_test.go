package dissect_test

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"crosstap/internal/dissect"
	"crosstap/internal/testkit"
)

// bigLength finds the lengths that tcpdump takes from the frame, or from a jumbo payload option: without the IPv6 header.
var bigLength = regexp.MustCompile(`length (\d+) \[was 0|real length (\d+)|\(jumbo: (\d+)\)`)

func TestBigTCP(t *testing.T) {
	seen := 0
	for _, c := range corpusFrames(t) {
		name, ok := strings.CutPrefix(c.file, "tap/tcpdump/")
		if !ok || !strings.HasPrefix(name, "bigtcp-") {
			continue
		}
		out, err := os.ReadFile(testkit.Corpus(t, strings.TrimSuffix(c.file, ".pcap")+".out"))
		if err != nil {
			t.Fatal(err)
		}
		var want, got []uint32
		for _, m := range bigLength.FindAllStringSubmatch(string(out), -1) {
			n, _ := strconv.Atoi(m[1] + m[2] + m[3])
			if m[3] != "" {
				n += 40
			}
			want = append(want, uint32(n))
		}
		var p dissect.Packet
		dissect.New(dissect.Config{}).Dissect(&p, c.link, c.data, c.orig)
		for _, f := range p.Levels[:p.NLevels] {
			got = append(got, f.IPLen32)
		}
		if !slices.Equal(got, want) || p.Issues != 0 {
			t.Errorf("%s: lengths = %d, tcpdump says %d; issues %#x", name, got, want, p.Issues)
		}
		seen++
	}
	if seen < 7 {
		t.Errorf("%d captures of BIG TCP, want at least 7", seen)
	}
}
