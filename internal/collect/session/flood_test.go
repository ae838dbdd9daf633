package session

import (
	"encoding/binary"
	"runtime"
	"testing"
)

// An exporter that sends the largest templates there are, each under a new identifier, does not make us keep them all.
func TestTemplateFloodIsBounded(t *testing.T) {
	tab := table(t, nil)
	k := key("10.0.0.9:5000")
	const fields = 16000
	def := make([]byte, 0, 4*fields)
	for i := range fields {
		def = binary.BigEndian.AppendUint16(def, uint16(1+i%400))
		def = binary.BigEndian.AppendUint16(def, 1)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for id := range 1000 {
		set := binary.BigEndian.AppendUint16([]byte{0, 2}, uint16(8+len(def)))
		set = binary.BigEndian.AppendUint16(set, uint16(256+id))
		set = binary.BigEndian.AppendUint16(set, fields)
		tab.Decode(k, int64(id), message(1, 0, uint32(id), append(set, def...)), nil)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d MiB for a thousand templates of %d fields", grown>>20, fields)
	if grown > 64<<20 {
		t.Errorf("%d MiB kept", grown>>20)
	}
	runtime.KeepAlive(tab)
}
