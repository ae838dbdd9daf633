package report

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"crosstap/internal/collect/report/filter"
)

// Completion is what may stand at a place of a filter expression. An option replaces the text between
// From and To (byte offsets).
type Completion struct {
	From    int             `json:"from"`
	To      int             `json:"to"`
	Options []filter.Option `json:"options"`
}

const (
	maxOptions   = 50
	completeSpan = time.Hour // values are taken from the newest hour of the range
)

// CheckFilter returns the mistake in an expression, nil when there is none.
func CheckFilter(expr string) *FilterError {
	_, err := filter.Parse(expr)
	if e, ok := err.(*FilterError); ok {
		return e
	}
	return nil
}

// PacketFilter is a flow filter in the language of packet filters, with what that cannot say.
type PacketFilter = filter.PacketFilter

// ToPacketFilter says a flow filter as a packet filter, for packets inside tunnels or plain ones.
func ToPacketFilter(expr string, inner bool) (PacketFilter, *FilterError) {
	e, err := filter.Parse(expr)
	if fe, ok := err.(*FilterError); ok {
		return PacketFilter{}, fe
	}
	return e.ToPacketFilter(filter.PacketOptions{Inner: inner}), nil
}

// Complete proposes fields, operators, keywords and values, those that occur most first. Values come
// from the last hour before until.
func (r *Reports) Complete(ctx context.Context, expr string, pos int, until time.Time) (Completion, error) {
	h := filter.Complete(expr, pos)
	out := Completion{From: h.From, To: h.To, Options: []filter.Option{}}
	if h.Field != nil {
		a, err := check(Query{Since: until.Add(-completeSpan), Until: until}, maxOptions)
		if err != nil {
			return Completion{}, err
		}
		err = r.with(ctx, a, func() error {
			out.Options, err = a.values(ctx, h.Field, h.Prefix)
			return err
		})
		if err != nil {
			return Completion{}, err
		}
	}
	seen := map[string]bool{}
	for _, o := range out.Options {
		seen[o.Text] = true
	}
	for _, o := range h.Options {
		if len(out.Options) < maxOptions && !seen[o.Text] {
			out.Options = append(out.Options, o)
		}
	}
	return out, nil
}

// values lists a field's values by frequency.
func (a *ask) values(ctx context.Context, f *filter.Field, prefix string) ([]filter.Option, error) {
	out := []filter.Option{}
	table := fmt.Sprintf("(SELECT * FROM %s WHERE t_end >= %s AND t_end < %s)", a.view.Table(), ts(a.sinceMS), ts(a.untilMS))
	query := f.Values(a.target(table), prefix, 20*maxOptions)
	if query == "" {
		return out, nil
	}
	err := a.each(ctx, query, func(rows *sql.Rows) error {
		var text string
		var n uint64
		if err := rows.Scan(&text, &n); err != nil {
			return err
		}
		text = filter.Quoted(f, keyText(f, text))
		if len(out) < maxOptions && text != "" && hasPrefixFold(strings.TrimPrefix(text, `"`), prefix) {
			out = append(out, filter.Option{Text: text, Kind: "value", Doc: fmt.Sprintf("%d rows", n)})
		}
		return nil
	})
	return out, err
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
