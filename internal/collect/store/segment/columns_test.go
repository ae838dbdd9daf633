package segment

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// columnBytes gives the compressed bytes of each column of files.
func columnBytes(t testing.TB, s *Store, files []file) map[string]int64 {
	t.Helper()
	out := map[string]int64{}
	for _, f := range files {
		in, err := os.Open(s.path(f.Name))
		if err != nil {
			t.Fatal(err)
		}
		pf, _, err := openParquet(in)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range pf.Metadata().RowGroups {
			for _, c := range g.Columns {
				out[strings.Join(c.MetaData.PathInSchema, ".")] += c.MetaData.TotalCompressedSize
			}
		}
		in.Close()
	}
	return out
}

// logColumns prints where the bytes are.
func logColumns(t testing.TB, what string, rows uint64, bytes map[string]int64) {
	names := make([]string, 0, len(bytes))
	for name := range bytes {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(bytes[b], bytes[a]) })
	var b strings.Builder
	for _, name := range names {
		if per := float64(bytes[name]) / float64(rows); per >= 0.02 {
			fmt.Fprintf(&b, " %s %.2f", name, per)
		}
	}
	t.Logf("%s, bytes a row of the rows:%s", what, b.String())
}
