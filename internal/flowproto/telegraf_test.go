package flowproto

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
	"crosstap/internal/testkit"
)

// The flows of telegraf's cases are those of its own expected lines: ends, ports, packets and octets.
func TestTelegrafFlows(t *testing.T) {
	f := func(name string) {
		t.Helper()
		dir := testkit.Corpus(t, "collect/telegraf/"+name)
		files, err := filepath.Glob(filepath.Join(dir, "*.bin"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", name, err)
		}
		sort.Strings(files)
		s, recs := NewSession(Limits{}), []flow.Record(nil)
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if recs, _, err = s.Decode(b, 1, recs); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
		var got []string
		for _, r := range recs {
			got = append(got, fmt.Sprintf("%v:%d %v:%d %d packets %d octets", r.Src, r.SrcPort, r.Dst, r.DstPort, r.Packets, r.Octets))
		}
		want := telegrafLines(t, filepath.Join(dir, "expected.out"))
		slices.Sort(got)
		slices.Sort(want)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-telegraf +got):\n%s", name, d)
		}
	}
	f("netflow_v5_example")
	f("netflow_v9_example")
	f("ipfix_pen_35632")
	f("issue_13305")
}

// telegrafLines reads line protocol: measurement and tags, fields, time. Numbers end in u.
func telegrafLines(t *testing.T, path string) (out []string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		v := map[string]string{"src_port": "0", "dst_port": "0"}
		_, fields, ok := strings.Cut(line, " ")
		if !ok {
			continue
		}
		for part := range strings.SplitSeq(fields, ",") {
			name, value, _ := strings.Cut(part, "=")
			value, _, _ = strings.Cut(value, " ")
			v[name] = strings.TrimSuffix(strings.Trim(value, `"`), "u")
		}
		out = append(out, fmt.Sprintf("%s:%s %s:%s %s packets %s octets", v["src"], v["src_port"], v["dst"], v["dst_port"], v["in_packets"], v["in_bytes"]))
	}
	return out
}
