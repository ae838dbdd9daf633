package report

import (
	"encoding/json"

	"crosstap/internal/flow"
)

// lists reads lists that SQL gives as JSON; it remembers the first error.
type lists struct{ err error }

func (l *lists) texts(doc string) []string {
	out, err := textList(doc)
	if l.err == nil {
		l.err = err
	}
	return out
}

func (l *lists) segments(doc string) []string {
	var numbers []uint64
	if err := json.Unmarshal([]byte(doc), &numbers); err != nil && l.err == nil {
		l.err = err
	}
	out := []string{}
	for _, n := range numbers {
		out = append(out, segmentText(flow.Segment(n)))
	}
	return out
}

func (l *lists) addrs(doc string) []string {
	out := l.texts(doc)
	for i := range out {
		out[i] = addrText(out[i])
	}
	return out
}
