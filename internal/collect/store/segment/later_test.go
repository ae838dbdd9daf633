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
	t0 := reflect.TypeFor[row]()
	var fields []reflect.StructField
	var values []func(r *row) any
	for i := range t0.NumField() {
		f := t0.Field(i)
		value := func(r *row) any { return reflect.ValueOf(r).Elem().Field(i).Interface() }
		switch f.Name {
		case "SpanMS":
			f.Tag, value = `parquet:"t_start,timestamp(millisecond:local)"`, func(r *row) any { return r.tStart() }
		case "LagMS":
			f.Tag, value = `parquet:"t_recv,timestamp(millisecond:local)"`, func(r *row) any { return r.TEnd + r.LagMS }
		case "L2Header":
			continue
		case "L2Other":
			f.Tag, value = `parquet:"l2_octets"`, func(r *row) any { return r.l2Octets() }
		case "FlowKey":
			f.Tag, value = `parquet:"flow_id"`, func(r *row) any { return r.flowID() }
		}
		fields, values = append(fields, f), append(values, value)
		if f.Name == "App" {
			break
		}
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
			v.Field(i).Set(reflect.ValueOf(values[i](&r)))
		}
		if err := w.Write(v.Addr().Interface()); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(map[string]any{"schema": 1, "rows": len(rows), "min_ms": rows[0].TEnd, "max_ms": rows[0].TEnd, "start_ms": rows[0].tStart()})
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
		rows[i].fill(&recs[1])
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
	f(3, "flow_id = 2 AND octets = 100 AND l2_octets = 0 AND epoch_ms(t_end) - epoch_ms(t_start) = 5000 AND src_port = 1")
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
	f(4, "flow_id = 2 AND octets = 100 AND l2_octets = 0 AND epoch_ms(t_end) - epoch_ms(t_start) = 5000 AND src_port = 1")
	for _, file := range s.man.live {
		if file.Columns != len(storedColumns) || file.Schema != schemaVersion {
			t.Errorf("%s has %d columns after the merge, want %d", file.Name, file.Columns, len(storedColumns))
		}
	}
}
