//go:build !agent

package main

import (
	"encoding/json"
	"reflect"
	"testing"

	"crosstap/internal/collect/report"
	"crosstap/internal/collect/report/filter"
	"crosstap/internal/flow"
	"crosstap/internal/tap/deliver"
)

// What a tap prints of a record has the names of the flows report, or of the flow filter, so that a script reads both.
func TestNamesOfFlows(t *testing.T) {
	known := map[string]bool{"point": true, "reverse": true, "first_tcp_flags": true, "in_if_name": true, "out_if_name": true} // of one observer's record alone
	for _, f := range reflect.VisibleFields(reflect.TypeFor[report.Flow]()) {
		known[f.Tag.Get("json")] = true
	}
	for _, f := range filter.Fields() {
		for _, c := range f.Columns {
			known[c] = true
		}
	}
	var printed map[string]any
	if err := json.Unmarshal(deliver.AppendJSON(nil, &flow.Record{}), &printed); err != nil {
		t.Fatal(err)
	}
	for name := range printed {
		if !known[name] {
			t.Errorf("%s is a name that neither the report nor the filter has", name)
		}
	}
}
