package decode

import (
	"encoding/hex"
	"strconv"

	"crosstap/internal/ie"
)

// isRecords reports whether a value is a list of records whose templates can be looked for.
func (v Value) isRecords() bool {
	t := v.Type()
	return v.find != nil && (t == ie.SubTemplateList || t == ie.SubTemplateMultiList)
}

// appendRecords shows a list of records: as JSON objects, or as [{name=value name=value} …]. Runs of records whose template is not known
// are shown as their bytes, and lists deep in lists too.
func (v Value) appendRecords(b []byte, asJSON bool) []byte {
	b = append(b, '[')
	first := true
	next := func() {
		switch {
		case first:
		case asJSON:
			b = append(b, ',')
		default:
			b = append(b, ' ')
		}
		first = false
	}
	eachSublist(listRef{multi: v.Type() == ie.SubTemplateMultiList, data: v.Bytes}, func(id uint16, body []byte) {
		t := v.find(id)
		if t == nil {
			next()
			b = strconv.AppendQuote(b, "template "+strconv.Itoa(int(id))+" is not known: 0x"+hex.EncodeToString(body))
			return
		}
		for len(body) >= t.minLen {
			n, ok := t.RecordLen(body)
			if !ok {
				return
			}
			next()
			b = appendRecord(b, &Item{Template: t, Data: body[:n]}, asJSON)
			body = body[n:]
		}
	})
	return append(b, ']')
}

func appendRecord(b []byte, it *Item, asJSON bool) []byte {
	b = append(b, '{')
	n := 0
	for v := range it.Fields() {
		switch {
		case asJSON && n > 0:
			b = append(b, ',')
		case n > 0:
			b = append(b, ' ')
		}
		n++
		if asJSON {
			b = append(strconv.AppendQuote(b, v.Name()), ':')
			b = v.AppendJSON(b)
			continue
		}
		b = append(append(b, v.Name()...), '=')
		b = v.AppendText(b)
	}
	return append(b, '}')
}
