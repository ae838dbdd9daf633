package session

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
)

// Ten thousand exporters with twenty templates each fit in less than 1 GB. The test runs with a thousand of them and a tenth of the memory;
// CROSSTAP_MANY_EXPORTERS sets the number.
func TestManyExporters(t *testing.T) {
	n := 1000
	if s := os.Getenv("CROSSTAP_MANY_EXPORTERS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	const templates, fieldsOfEach = 20, 24
	var sets [][]byte
	for id := range uint16(templates) {
		ws := words(256+id, fieldsOfEach)
		for f := range uint16(fieldsOfEach) {
			ws = append(ws, words(1+f, 4)...)
		}
		sets = append(sets, set(2, ws))
	}
	tab := table(t, nil)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range n {
		k := key(fmt.Sprintf("10.%d.%d.%d:5000", i>>16, i>>8&255, i&255))
		tab.Decode(k, base, ipfixMessage(0, sets...), nil)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	used := int(after.HeapAlloc - before.HeapAlloc)
	s := tab.Stats()
	t.Logf("%d exporters with %d templates: %d MiB, %d bytes each; accounted %d MiB", n, templates, used>>20, used/n, s.HeldBytes>>20)
	if s.Sessions != n || s.Evicted != 0 || used/n > 1e9/10000 {
		t.Errorf("%d bytes for an exporter, %+v", used/n, s)
	}
	runtime.KeepAlive(tab)
}
