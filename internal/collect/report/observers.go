package report

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"time"

	"crosstap/internal/flow"
)

// Sight is what one observer saw of one direction of a conversation.
type Sight struct {
	Observer    string    `json:"observer"`
	Role        string    `json:"role"`
	Host        string    `json:"host"`
	Way         string    `json:"way"`  // "fwd" from source to destination, or "rev"
	Side        string    `json:"side"` // of the way: "source", "between" or "destination"
	Octets      uint64    `json:"octets"`
	OctetsError uint64    `json:"octets_error"` // half width of the 95 % interval; 0 when counted
	Packets     uint64    `json:"packets"`
	Lost        int64     `json:"lost"`       // packets that the sight before on the way saw more than this one; negative for fewer
	LostRatio   *float64  `json:"lost_ratio"` // Lost ÷ packets of that one; null for the first, and within the error of sampling
	RTTUS       uint64    `json:"rtt_us"`     // greatest, 0 when it measured none
	Retransmits uint64    `json:"retransmits"`
	Canonical   bool      `json:"canonical"` // sums read some of its rows
	FirstSeen   time.Time `json:"first_seen"`
	LastSeen    time.Time `json:"last_seen"`
	Marks       []string  `json:"marks"`
}

// Observed is a conversation with what each observer saw of it, in the order in which packets pass them.
type Observed struct {
	Conversation
	Sights []Sight `json:"sights"`
	Loss   string  `json:"loss"` // where packets were lost, the greatest loss; "" for none
}

// Observers is the answer of "Conversations by observer".
type Observers struct {
	Meta Meta       `json:"meta"`
	Rows []Observed `json:"rows"`
}

const defaultObserved = 50

// Observers implements Reporter: the greatest conversations, each with what every observer of it saw. Observers cut time at
// different places, so a conversation that goes on at the edges of the range differs by what they had not yet reported.
func (r *Reports) Observers(ctx context.Context, q Query) (Observers, error) {
	a, err := check(q, defaultObserved)
	if err != nil {
		return Observers{}, err
	}
	if a.Limit > maxLines {
		return Observers{}, &QueryError{"limit", fmt.Sprintf("%d conversations asked for", a.Limit), "1000 at most"}
	}
	order, err := a.order(convSort, "-octets", conversationTie)
	if err != nil {
		return Observers{}, err
	}
	var out Observers
	err = r.with(ctx, a, func() error {
		out, err = a.observers(ctx, r, order)
		return err
	})
	return out, err
}

func (a *ask) observers(ctx context.Context, r *Reports, order string) (Observers, error) {
	conv, err := a.conversations(ctx, r, order)
	if err != nil {
		return Observers{}, err
	}
	out := Observers{Meta: conv.Meta, Rows: make([]Observed, len(conv.Rows))}
	out.Meta.Report = "observers"
	for i := range conv.Rows {
		out.Rows[i] = Observed{Conversation: conv.Rows[i], Sights: []Sight{}}
	}
	a.args = nil
	ctxErr := a.each(ctx, a.sights(order), func(rows *sql.Rows) error { return scanSight(rows, out.Rows) })
	if ctxErr != nil {
		return Observers{}, ctxErr
	}
	for i := range out.Rows {
		out.Rows[i].compare()
	}
	out.Meta.Notes = append(out.Meta.Notes, "observers report at different times: at the edges of the range they differ by what is not reported yet")
	return out, nil
}

// sights gives a row for each conversation of the answer, observer and way. What a switch reports as ingress and as egress are
// two places.
func (a *ask) sights(order string) string {
	return a.grouped(a.sinceMS, a.untilMS, true) + fmt.Sprintf(`,
topq AS MATERIALIZED (SELECT row_number() OVER (ORDER BY %[1]s) AS n, fabric AS tf, segment AS ts, a AS ta, a_who AS ta_who, b AS tb, b_who AS tb_who, proto AS tp, fwd AS ahead,
  if(fwd, src_port, dst_port) AS ta_port, if(fwd, dst_port, src_port) AS tb_port FROM q ORDER BY %[1]s LIMIT %[2]d),
w0 AS NOT MATERIALIZED (SELECT *, `+swapped+` AS sw FROM l),
w AS NOT MATERIALIZED (SELECT *, if(sw, dst, src) AS a, if(sw, src, dst) AS b, if(sw, `+dstWho+`, `+srcWho+`) AS a_who, if(sw, `+srcWho+`, `+dstWho+`) AS b_who,
  if(sw, dst_port, src_port) AS a_port, if(sw, src_port, dst_port) AS b_port, `+observerName+` AS seen FROM w0)
SELECT n, seen, role, observer_host, direction, sw <> ahead AS fwd,
  sum(octets)::UBIGINT, coalesce(`+variance+`, 0)::DOUBLE, sum(packets)::UBIGINT, max(rtt_us)::UBIGINT, sum(retransmits)::UBIGINT, bool_or((marks & 1) <> 0), min(t_start), max(t_end), bit_or(marks)::USMALLINT
  FROM w JOIN topq ON fabric = tf AND segment = ts AND a = ta AND a_who = ta_who AND b = tb AND b_who = tb_who AND proto = tp AND a_port = ta_port AND b_port = tb_port
  GROUP BY n, seen, role, observer_host, direction, fwd ORDER BY n, fwd DESC, seen, role, observer_host, direction`, order, a.Limit)
}

func scanSight(rows *sql.Rows, out []Observed) error {
	var s Sight
	var n int
	var role, direction uint8
	var fwd bool
	var variance float64
	var marks uint16
	if err := rows.Scan(&n, &s.Observer, &role, &s.Host, &direction, &fwd, &s.Octets, &variance, &s.Packets, &s.RTTUS, &s.Retransmits, &s.Canonical, &s.FirstSeen, &s.LastSeen, &marks); err != nil {
		return err
	}
	s.Observer, s.Role, s.FirstSeen, s.LastSeen = observerText(s.Observer), flow.Role(role).String(), s.FirstSeen.UTC(), s.LastSeen.UTC()
	s.OctetsError, s.Marks = uint64(math.Round(z95*math.Sqrt(variance))), markNames(flow.Mark(marks))
	s.Way = map[bool]string{true: "fwd", false: "rev"}[fwd]
	if d := flow.DirectionText(direction); d != "" && (role == uint8(flow.RolePort) || role == uint8(flow.RoleTunnel)) {
		s.Observer += " " + d
	}
	if n >= 1 && n <= len(out) {
		out[n-1].Sights = append(out[n-1].Sights, s)
	}
	return nil
}

// compare puts the sights into the order of the way and takes the differences.
func (o *Observed) compare() {
	for i := range o.Sights {
		o.Sights[i].Side = o.side(&o.Sights[i])
	}
	slices.SortStableFunc(o.Sights, func(a, b Sight) int {
		return cmp.Or(cmp.Compare(a.Way, b.Way), cmp.Compare(passed(&a), passed(&b)), cmp.Compare(a.Observer, b.Observer))
	})
	worst := int64(0)
	for i := range o.Sights {
		if i == 0 || o.Sights[i-1].Way != o.Sights[i].Way {
			continue
		}
		was, now := &o.Sights[i-1], &o.Sights[i]
		now.Lost = int64(was.Packets - now.Packets)
		if !differ(was, now) {
			continue
		}
		ratio := float64(now.Lost) / float64(max(was.Packets, 1))
		now.LostRatio = &ratio
		if now.Lost > worst {
			worst = now.Lost
			o.Loss = fmt.Sprintf("%d of %d packets between %s and %s", now.Lost, was.Packets, was.Observer, now.Observer)
		}
	}
}

// side says where on its way a packet is at an observer.
func (o *Observed) side(s *Sight) string {
	from, to := o.SrcHost, o.DstHost
	if s.Way == "rev" {
		from, to = to, from
	}
	switch {
	case s.Host == "" || s.Role == "underlay" || s.Host != from && s.Host != to:
		return "between"
	case s.Host == from:
		return "source"
	}
	return "destination"
}

// passed orders observers as a packet passes them: out of the machine, its port, the mirror beside that, the tunnel, the
// underlay, and the same backwards at the other end.
func passed(s *Sight) int {
	depth := map[string]int{"vnic": 0, "port": 1, "unknown": 2, "mirror": 3, "tunnel": 4, "underlay": 5}[s.Role]
	switch s.Side {
	case "source":
		return depth
	case "between":
		return 10 + depth
	}
	return 30 - depth
}

// differ reports whether two sights differ by more than their sampling explains.
func differ(a, b *Sight) bool {
	if a.Packets == b.Packets {
		return false
	}
	if a.OctetsError == 0 && b.OctetsError == 0 {
		return true
	}
	// The error of packets is that of octets, relative: sizes vary little beside the sampling.
	rel := func(s *Sight) float64 {
		return float64(s.OctetsError) / float64(max(s.Octets, 1)) * float64(s.Packets)
	}
	return math.Abs(float64(a.Packets)-float64(b.Packets)) > math.Hypot(rel(a), rel(b))
}
