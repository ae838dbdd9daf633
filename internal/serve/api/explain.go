package api

import (
	"context"
	"errors"
	"reflect"
	"strings"

	"crosstap/internal/collect/report"
	"crosstap/internal/filter"

	"github.com/danielgtaylor/huma/v2"
)

// explainQuestion asks what becomes of a packet filter.
type explainQuestion struct {
	Filter string `query:"f" maxLength:"8192" doc:"Packet filter, in the language of pcap-filter(7) with the words for tunnels; empty matches everything" example:"vxlan 5001 and tcp port 443"`
	Link   string `query:"link" default:"ethernet" maxLength:"64" doc:"Link type of the frames" example:"linux-sll2"`
	Live   bool   `query:"live" doc:"Programs for frames whose VLAN tag the kernel has taken out, as on packet sockets and at tc hooks"`
}

// explain registers the question about packet filters.
func (a *API) explain() {
	op := state[explainQuestion](a.huma, "filter-explain", "filter/explain", "What each back end makes of a packet filter, and what is residual", reflect.TypeFor[filter.Explanation]())
	huma.Register(a.huma, op, func(ctx context.Context, in *explainQuestion) (*output, error) {
		link, ok := filter.LinkNamed(in.Link)
		if !ok {
			return nil, wrong(&Fault{Message: "no such link type; there are " + strings.Join(filter.LinkNames(), ", "), Location: "query.link", Value: in.Link})
		}
		x, err := limited(a, ctx, report.Query{}, func(context.Context, report.Query) (filter.Explanation, error) {
			f, err := filter.Compile(in.Filter, link, filter.Options{KernelVLAN: in.Live})
			if err != nil {
				return filter.Explanation{}, err
			}
			x, _ := f.Explain() // it says itself what is missing
			return x, nil
		})
		var mistake *filter.Error
		switch {
		case errors.As(err, &mistake):
			return nil, wrong(&Fault{Message: mistake.Message, Location: "query.f", Value: in.Filter, Pos: &mistake.Pos, Len: &mistake.Len, Suggestion: mistake.Suggestion})
		case err != nil:
			return nil, a.failed(ctx, err, in.Filter)
		}
		if x.OpenFlow == nil {
			x.OpenFlow = []string{}
		}
		o := &output{}
		return o, o.write("filter-explain", "json", x)
	})
}
