package segment

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/parquet-go/parquet-go"
)

// writeOld writes rows without the later columns, as an older version did.
func writeOld(t *testing.T, dir string, rows []row) {
	t.Helper()
	var fields []reflect.StructField
	for i := range firstColumns {
		fields = append(fields, reflect.TypeFor[row]().Field(i))
	}
	old := reflect.StructOf(fields)
	name := fileName(0, rows[0].TEnd, rows[0].TEnd, "old")
	path := filepath.Join(dir, "flows", "v1", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := parquet.NewWriter(f, parquet.SchemaOf(reflect.New(old).Interface()))
	for _, r := range rows {
		v := reflect.New(old).Elem()
		for i := range fields {
			v.Field(i).Set(reflect.ValueOf(r).Field(i))
		}
		if err := w.Write(v.Addr().Interface()); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(map[string]any{"schema": 1, "rows": len(rows), "min_ms": rows[0].TEnd, "max_ms": rows[0].TEnd, "start_ms": rows[0].TStart})
	if err != nil {
		t.Fatal(err)
	}
	w.SetKeyValueMetadata(footerKey, string(text))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestOlderFiles: files without the later columns answer, alone and beside new ones, and a merge brings them up to date.
func TestOlderFiles(t *testing.T) {
	dir := t.TempDir()
	recs := some(3)
	rows := make([]row, len(recs))
	for i := range rows {
		rows[i].fill(&recs[0])
	}
	writeOld(t, dir, rows)
	s := open(t, Config{Dir: dir})
	s.keep.Lock()
	defer s.keep.Unlock()
	f := func(want int, where string) {
		t.Helper()
		if n := count(t, s, where); n != want {
			t.Errorf("%s: %d rows, want %d", where, n, want)
		}
	}
	f(3, "true")
	f(3, "src_vm_id = '' AND dst_vm_id = '' AND max_len = 0 AND rtt_us = 0 AND app_how = 0 AND extra = ''")
	for i := range recs {
		recs[i].SrcVMID = "3f0c"
	}
	put(t, s, recs)
	f(6, "true")
	f(3, "src_vm_id = ''")
	f(3, "src_vm_id = '3f0c'")
	if err := s.replace(s.hours()[base/1e6], 1, false, nil); err != nil {
		t.Fatal(err)
	}
	f(3, "src_vm_id = '3f0c'")
	f(6, "dst_vm_id = ''")
	for _, file := range s.man.live {
		if file.Columns != len(Columns()) {
			t.Errorf("%s has %d columns after the merge, want %d", file.Name, file.Columns, len(Columns()))
		}
	}
}
