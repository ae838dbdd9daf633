package ipfix

import (
	"bytes"
	"encoding/hex"
	"testing"

	"crosstap/internal/flow"
)

// Two domains with one identifier for two layouts, an options template, an enterprise element: all of it
// comes back, and data decodes as if nothing had happened.
func TestRestoreTemplates(t *testing.T) {
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	templates := unhex("000a00300000000100000000" + "00000007" + // domain 7
		"00020010" + "01000002" + "00080004" + "000c0004" + // 256: source, destination
		"00030010" + "01010001" + "0001" + "00900004" + "0000" + // options template 257, scope exportingProcessId; padding
		"") // 16 + 16 + 16
	other := unhex("000a00240000000100000000" + "00000008" + "00020014" + "01000002" + "80080004" + "00001adc" + "00010008")
	a := NewSession(Limits{})
	if _, res, err := a.Decode(templates, 1, nil); err != nil || res.Templates != 2 {
		t.Fatalf("%+v, %v", res, err)
	}
	if _, res, err := a.Decode(other, 1, nil); err != nil || res.Templates != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	saved := a.AppendTemplates(nil)
	b := NewSession(Limits{})
	if res, err := b.Restore(saved, 2); err != nil || res.Templates != 3 {
		t.Fatalf("%+v, %v", res, err)
	}
	if !bytes.Equal(b.AppendTemplates(nil), saved) {
		t.Error("templates changed")
	}
	if b.DomainTemplates(7) != 2 || b.DomainTemplates(8) != 1 || b.DomainTemplates(9) != 0 {
		t.Error("templates moved between domains")
	}
	data := unhex("000a001c0000000100000fff" + "00000007" + "0100000c" + "0a000001" + "0a000002")
	recs, res, err := b.Decode(data, 3, nil)
	if err != nil || len(recs) != 1 || res.Lost != 0 || recs[0].Dst != flow.V4([]byte{10, 0, 0, 2}) {
		t.Errorf("%+v, %+v, %v", recs, res, err)
	}
}
