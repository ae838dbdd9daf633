package enrich

import (
	"crosstap/internal/apphint"
	"crosstap/internal/flow"
)

// appOf names the service of a record that names none: that of the server's port, else of either port, else of the protocol.
func appOf(r *flow.Record) {
	name, how := apphint.ByPort(r.Proto, r.SrcPort, r.DstPort, r.Client)
	if r.App = name; r.AppHow == flow.AppUnknown {
		r.AppHow = how
	}
}
