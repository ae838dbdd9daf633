package enrich

import (
	"crosstap/internal/apphint"
	"crosstap/internal/flow"
)

// appOf names the service of a record: that of the server's port, else of either port, else of the protocol.
func appOf(r *flow.Record) string {
	name, _ := apphint.ByPort(r.Proto, r.SrcPort, r.DstPort, r.Client)
	return name
}
