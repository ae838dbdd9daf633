// Package settings reads what a server is told: flags before CROSSTAP_* variables before the file
// before defaults, with the origin of each value.
package settings

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"crosstap/internal/ask"
	"crosstap/internal/ie"
)

// Settings are those of "crosstap serve".
type Settings struct {
	Role      string // RoleAll, RoleCollector or RoleWriter
	Store     string // URL of ClickHouse; "" for the directory
	Bus       string // URL of the bus between collectors and writers
	BusListen string // address of a bus of our own, "" for none
	BusSize   int64  // of what waits there, bytes

	Data      string   // store directory
	HTTP      string   // address of console and API
	HTTPHosts []string // further names for the Host header on a loopback listener
	Flows     []string // addresses of the collector, as ParseFlows reads them
	Inventory string   // file, "" for none

	Outputs    string   // file of where records and datagrams go beside the store, "" for none
	OutputList []Output // the same, from the settings' own file

	FlowsAllow      []string // exporters that may send, addresses and networks; none for all
	FlowsCert       string   // PEM files of TLS and DTLS
	FlowsKey        string
	FlowsClientCA   string   // exporters must then show a certificate of these issuers
	FlowsSockets    int64    // sockets on each UDP port; 0 for as many as it takes
	FlowsRemembered int64    // directions of flows of all observers remembered at once
	FlowsBuffer     int64    // receive buffer of each UDP port, bytes; 0 for the default
	Exporters       string   // file with what exporters do not say of themselves, "" for none
	Elements        []string // files with definitions of elements that the tables do not name

	Agents      string // address that agents come to, "" for none
	AgentsCert  string // PEM files of TLS there; "" for a certificate of the server's own authority
	AgentsKey   string
	AgentsLease time.Duration // how long agents' taps go on without the server

	ControlOwner string // in the marks of what the control line makes

	QueryMemory  int64         // of the query engine, bytes; 0 for the store's own choice
	QueryTimeout time.Duration // longest time of one report
	Flush        time.Duration // records are durable after that long
	Keep         time.Duration // stored hours older than that are deleted; 0 keeps them
	KeepRollups  time.Duration // roll-ups older than that are deleted; 0 keeps them
	KeepSize     int64         // the oldest hours are deleted above that size, bytes; 0 for no limit
	Verbose      bool
}

// Default returns the settings of a server that is told nothing.
func Default() Settings {
	return Settings{
		Role: RoleAll, BusSize: 10_000_000_000, Data: "/var/lib/crosstap", HTTP: "127.0.0.1:8474", Flows: []string{"127.0.0.1:4739", "tcp://127.0.0.1:4739", "127.0.0.1:2055", "127.0.0.1:6343"},
		FlowsRemembered: 1 << 18, AgentsLease: 5 * time.Minute, ControlOwner: "crosstap", QueryTimeout: 30 * time.Second, Flush: 2 * time.Second, KeepRollups: 400 * 24 * time.Hour,
	}
}

// Setting is one key: its flag is --KEY, its variable CROSSTAP_KEY with "_" for "-", its key in the file KEY.
type Setting struct {
	Key  string
	Help string
	Kind string // "string", "strings", "duration", "size", "number", "bool"
	get  func(*Settings) string
	set  func(*Settings, []string) error
}

// Env returns the name of the variable.
func (s Setting) Env() string {
	return "CROSSTAP_" + strings.ToUpper(strings.ReplaceAll(s.Key, "-", "_"))
}

// Text returns the setting's value as a person writes it.
func (s Setting) Text(from Settings) string { return s.get(&from) }

// All lists the settings in the order of help and file.
func All() []Setting {
	return []Setting{
		text("data", "store directory", func(s *Settings) *string { return &s.Data }),
		text("http", "address of console and API", func(s *Settings) *string { return &s.HTTP }),
		list("http-host", "further name that browsers may use for a loopback address; repeatable", func(s *Settings) *[]string { return &s.HTTPHosts }),
		list("flows", "address for IPFIX, NetFlow and sFlow: IP:PORT for UDP, or tcp://, tls://, dtls:// before it; repeatable", func(s *Settings) *[]string { return &s.Flows }),
		list("flows-allow", "exporter or network that may send, others are refused; repeatable", func(s *Settings) *[]string { return &s.FlowsAllow }),
		text("flows-cert", "certificate of the collector for tls:// and dtls://, PEM; read again when it changes", func(s *Settings) *string { return &s.FlowsCert }),
		text("flows-key", "its key", func(s *Settings) *string { return &s.FlowsKey }),
		text("flows-client-ca", "issuers of the certificates that exporters must show, PEM", func(s *Settings) *string { return &s.FlowsClientCA }),
		number("flows-sockets", "sockets on each UDP port, 0 for as many as its receive buffer takes", func(s *Settings) *int64 { return &s.FlowsSockets }),
		size("flows-buffer", "receive buffer of each UDP port, such as 64MiB (default 32MiB)", func(s *Settings) *int64 { return &s.FlowsBuffer }),
		number("flows-remembered", "directions of flows that are remembered to count each one once, some 350 bytes each; beyond it the oldest are forgotten and told", func(s *Settings) *int64 { return &s.FlowsRemembered }),
		text("exporters", "file with sampling rates, switches and ports that exporters do not tell themselves; watched", func(s *Settings) *string { return &s.Exporters }),
		list("elements", "file with definitions of information elements without a name, .yaml or .csv; watched; repeatable", func(s *Settings) *[]string { return &s.Elements }),
		text("outputs", "file with where records and datagrams go beside the store; in the settings file also the list itself", func(s *Settings) *string { return &s.Outputs }),
		text("inventory", "file with the names of VMs, hosts, tenants and observers; watched", func(s *Settings) *string { return &s.Inventory }),
		text("agents", "address that agents come to over TLS, such as 0.0.0.0:8475; none unless given", func(s *Settings) *string { return &s.Agents }),
		text("agents-cert", "certificate for agents, PEM; without it the server makes its own, and tokens carry its pin", func(s *Settings) *string { return &s.AgentsCert }),
		text("agents-key", "its key", func(s *Settings) *string { return &s.AgentsKey }),
		span("agents-lease", "how long agents' taps go on without the server", func(s *Settings) *time.Duration { return &s.AgentsLease }),
		text("control-owner", "name in the marks of what the control line makes on platforms; servers with different names leave each other's taps alone", func(s *Settings) *string { return &s.ControlOwner }),
		size("query-memory", "memory of the query engine, such as 128MiB (default a quarter of the machine's, at most 384MiB)", func(s *Settings) *int64 { return &s.QueryMemory }),
		span("query-timeout", "longest time of one report", func(s *Settings) *time.Duration { return &s.QueryTimeout }),
		span("flush", "accepted records are durable after that long", func(s *Settings) *time.Duration { return &s.Flush }),
		span("keep", "delete stored hours older than that, such as 30d; 0s keeps them", func(s *Settings) *time.Duration { return &s.Keep }),
		span("keep-rollups", "delete roll-ups older than that once their hours are deleted, such as 400d; 0s keeps them", func(s *Settings) *time.Duration { return &s.KeepRollups }),
		size("keep-size", "delete the oldest stored hours above that size, such as 20GB; 0 for no limit", func(s *Settings) *int64 { return &s.KeepSize }),
		text("role", "all, or collector and writer with a bus between them", func(s *Settings) *string { return &s.Role }),
		text("store", "ClickHouse instead of the store directory, such as clickhouse://host:9000/crosstap?cluster=main&replicated=true", func(s *Settings) *string { return &s.Store }),
		text("bus", "NATS JetStream between collectors and writers, such as nats://host1,host2:4222/CROSSTAP?replicas=3", func(s *Settings) *string { return &s.Bus }),
		text("bus-listen", "address of a NATS server in this process that keeps the bus in the store directory", func(s *Settings) *string { return &s.BusListen }),
		size("bus-size", "what may wait on the bus; beyond it collectors wait, then shed and count", func(s *Settings) *int64 { return &s.BusSize }),
		flag("verbose", "log more", func(s *Settings) *bool { return &s.Verbose }),
	}
}

// Check finds what cannot work, before anything is opened. Its error joins every mistake found.
func (s Settings) Check() error { return errors.Join(s.mistakes()...) }

// mistakes returns what cannot work. Each begins with the key that is wrong.
func (s Settings) mistakes() []error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	found := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	if s.Data == "" {
		wrong("data: a store directory is needed")
	}
	if err := checkAddress(s.HTTP); err != nil {
		wrong("http: %w", err)
	}
	found(s.checkAgents())
	before := len(errs)
	if s.FlowsBuffer != 0 && (s.FlowsBuffer < 4096 || s.FlowsBuffer > 1<<30) {
		wrong("flows-buffer: %s: expected 4KiB to 1GiB", sizeText(s.FlowsBuffer))
	}
	if s.FlowsSockets < 0 || s.FlowsSockets > 64 {
		wrong("flows-sockets: %d: expected 0 to 64", s.FlowsSockets)
	}
	if len(errs) == before { // else each listener would name these once more
		_, err := s.Listeners()
		found(err)
	}
	if s.FlowsRemembered != 0 && (s.FlowsRemembered < 1<<10 || s.FlowsRemembered > 1<<28) {
		wrong("flows-remembered: %d: expected %d to %d", s.FlowsRemembered, 1<<10, 1<<28)
	}
	found(s.checkRole())
	if s.Exporters != "" {
		if _, err := LoadExporters(s.Exporters); err != nil {
			wrong("exporters: %w", err)
		}
	}
	_, err := ie.Load(s.Elements...)
	found(err)
	if err := s.checkOutputs(); err != nil {
		wrong("outputs: %w", err)
	}
	for _, d := range []struct {
		key      string
		v        time.Duration
		min, max time.Duration
	}{{"flush", s.Flush, 10 * time.Millisecond, time.Minute}, {"query-timeout", s.QueryTimeout, 100 * time.Millisecond, time.Hour}} {
		if d.v < d.min || d.v > d.max {
			wrong("%s: %v: expected %v to %v", d.key, d.v, d.min, d.max)
		}
	}
	if s.KeepRollups != 0 && s.KeepRollups < time.Hour {
		wrong("keep-rollups: %v: expected 0s or at least 1h", s.KeepRollups)
	}
	if s.Keep != 0 && s.Keep < time.Hour {
		wrong("keep: %v: expected 0s or at least 1h, the store deletes whole hours", s.Keep)
	}
	if s.QueryMemory != 0 && s.QueryMemory < 32<<20 {
		wrong("query-memory: %s: expected at least 32MiB", sizeText(s.QueryMemory))
	}
	return errs
}

// checkAddress accepts IP:PORT. Names are not resolved: what listens must not depend on DNS.
func checkAddress(a string) error {
	if _, err := netip.ParseAddrPort(a); err != nil {
		return fmt.Errorf("address %q: expected IP:PORT, such as 127.0.0.1:4739 or [::]:4739", a)
	}
	return nil
}

func text(key, help string, p func(*Settings) *string) Setting {
	return Setting{key, help, "string", func(s *Settings) string { return *p(s) }, one(func(s *Settings, v string) error {
		*p(s) = v
		return nil
	})}
}

func list(key, help string, p func(*Settings) *[]string) Setting {
	return Setting{key, help, "strings", func(s *Settings) string { return strings.Join(*p(s), ",") }, func(s *Settings, vs []string) error {
		*p(s) = nil
		for _, v := range vs {
			for part := range strings.SplitSeq(v, ",") {
				if part = strings.TrimSpace(part); part != "" {
					*p(s) = append(*p(s), part)
				}
			}
		}
		return nil
	}}
}

func span(key, help string, p func(*Settings) *time.Duration) Setting {
	return Setting{key, help, "duration", func(s *Settings) string { return p(s).String() }, one(func(s *Settings, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil {
			d, err = ask.ParseSpan(v)
		}
		if err != nil || d < 0 {
			return fmt.Errorf("%q: expected a duration such as 2s, 720h or 30d", v)
		}
		*p(s) = d
		return nil
	})}
}

func size(key, help string, p func(*Settings) *int64) Setting {
	return Setting{key, help, "size", func(s *Settings) string { return sizeText(*p(s)) }, one(func(s *Settings, v string) (err error) {
		*p(s), err = ParseSize(v)
		return err
	})}
}

func number(key, help string, p func(*Settings) *int64) Setting {
	return Setting{key, help, "number", func(s *Settings) string { return strconv.FormatInt(*p(s), 10) }, one(func(s *Settings, v string) error {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 {
			return fmt.Errorf("%q: expected a number", v)
		}
		*p(s) = n
		return nil
	})}
}

func flag(key, help string, p func(*Settings) *bool) Setting {
	return Setting{key, help, "bool", func(s *Settings) string { return fmt.Sprint(*p(s)) }, one(func(s *Settings, v string) error {
		switch v {
		case "true", "1", "yes":
			*p(s) = true
		case "false", "0", "no":
			*p(s) = false
		default:
			return fmt.Errorf("%q: expected true or false", v)
		}
		return nil
	})}
}

// one adapts a setter of a single value. The last of several flags counts.
func one(set func(*Settings, string) error) func(*Settings, []string) error {
	return func(s *Settings, vs []string) error {
		if len(vs) == 0 {
			return fmt.Errorf("expected a value")
		}
		return set(s, vs[len(vs)-1])
	}
}

// AbsData returns the store directory without dependence on the working directory.
func (s Settings) AbsData() string {
	if abs, err := filepath.Abs(s.Data); err == nil {
		return abs
	}
	return s.Data
}
