package about

import "crosstap/internal/flow"

// Classification engines of RFC 6759, section 4.1.
const (
	engineL3   = 1  // selector: IP protocol
	engineL4   = 3  // selector: port
	engineUser = 6  // selector: the operator's
	engineL7   = 13 // selector: ours, the payload that told it
)

// Selectors of engineL7.
const (
	selectSSH = 1 + iota
	selectDNS
	selectHTTP
	selectTLS
	selectQUIC
)

// payloadApps are the applications that payloads tell, by selector.
var payloadApps = [...]struct {
	how               flow.AppHow
	name, description string
}{
	selectSSH:  {flow.AppSSH, "ssh", "by its banner"},
	selectDNS:  {flow.AppDNS, "dns", "by a message with a question"},
	selectHTTP: {flow.AppHTTP, "http", "by a request or an answer"},
	selectTLS:  {flow.AppTLS, "tls", "by a ClientHello"},
	selectQUIC: {flow.AppQUIC, "quic", "by an Initial packet"},
}

// ApplicationID returns applicationId (95): in the most significant byte the engine, which says how the application is known, below
// it the number that it has there.
func ApplicationID(r *flow.Record) uint32 {
	engine, selector := uint32(engineUser), uint32(0)
	switch r.AppHow {
	case flow.AppProto:
		engine, selector = engineL3, uint32(r.Proto)
	case flow.AppPort:
		engine, selector = engineL4, uint32(servicePort(r))
	case flow.AppExporter:
		selector = 1
	default:
		for i := range payloadApps {
			if i > 0 && payloadApps[i].how == r.AppHow {
				engine, selector = engineL7, uint32(i)
			}
		}
	}
	return engine<<24 | selector
}

// servicePort is the port on the side that did not open the conversation, the lower one where that is not known.
func servicePort(r *flow.Record) uint16 {
	switch r.Client {
	case flow.ClientSrc:
		return r.DstPort
	case flow.ClientDst:
		return r.SrcPort
	}
	return min(r.SrcPort, r.DstPort)
}

// ApplicationName is the name of the protocol, where the record or the payload tells it.
func ApplicationName(r *flow.Record) string {
	if r.App != "" {
		return r.App
	}
	for _, a := range payloadApps[1:] {
		if a.how == r.AppHow {
			return a.name
		}
	}
	return ""
}

// HowOf is the inverse of ApplicationID as far as it says how the application is known.
func HowOf(id uint32) flow.AppHow {
	switch engine, selector := id>>24, id&0xffffff; {
	case engine == engineL3:
		return flow.AppProto
	case engine == engineL4:
		return flow.AppPort
	case engine == engineUser && selector == 0:
		return flow.AppConfig
	case engine == engineL7 && selector > 0 && int(selector) < len(payloadApps):
		return payloadApps[selector].how
	}
	return flow.AppExporter
}

// Application is a row of the table that gives the numbers names.
type Application struct {
	ID                uint32
	Name, Description string
}

// Applications returns the table of the applications that payloads tell.
func Applications() (all []Application) {
	for i, a := range payloadApps {
		if i > 0 {
			all = append(all, Application{engineL7<<24 | uint32(i), a.name, a.description})
		}
	}
	return all
}
