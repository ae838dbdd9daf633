package report

import (
	"context"
	"database/sql"
	"fmt"

	"crosstap/internal/flow"
)

// Conversations implements Reporter. A conversation is a 5-tuple between two ends, both directions as one.
func (r *Reports) Conversations(ctx context.Context, q Query) (Conversations, error) {
	a, err := check(q, defaultLimit)
	if err != nil {
		return Conversations{}, err
	}
	order, err := a.order(convSort, "-octets", conversationTie)
	if err != nil {
		return Conversations{}, err
	}
	var out Conversations
	err = r.with(ctx, a, func() error {
		out, err = a.conversations(ctx, r, order)
		return err
	})
	return out, err
}

func (a *ask) conversations(ctx context.Context, r *Reports, order string) (Conversations, error) {
	out := Conversations{Rows: []Conversation{}}
	var s endsScan
	a.rows, a.need = pairRows, pairFills
	query := a.grouped(a.sinceMS, a.untilMS, true) + totals("q") + "\nSELECT " + endsColumns + ", " + countsColumns +
		", proto, src_port, dst_port, app, tcp_flags, " + totalColumns + " FROM q CROSS JOIN t ORDER BY " + order + fmt.Sprintf(" LIMIT %d", a.Limit)
	a.rows, a.need = nil, nil
	err := a.each(ctx, query, func(rows *sql.Rows) error {
		var c Conversation
		var proto uint8
		var flags uint16
		into := append(append(s.ends(&c.Ends), s.counts(&c.Counts)...), &proto, &c.SrcPort, &c.DstPort, &c.App, &flags)
		if err := rows.Scan(append(into, s.totals()...)...); err != nil {
			return err
		}
		if err := s.finish(&c.Ends, &c.Counts); err != nil {
			return err
		}
		c.Proto, c.TCPFlags = flow.ProtoText(proto), flow.TCPFlagText(flags)
		out.Rows = append(out.Rows, c)
		return nil
	})
	if err != nil {
		return Conversations{}, err
	}
	out.Meta, err = a.meta(ctx, r, "conversations", s.total, s.sampled, s.ambiguous)
	return out, err
}
