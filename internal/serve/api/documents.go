package api

import (
	"time"

	"crosstap/internal/ledger"
)

// Status says how the server is. Its exporters are listed whole by the exporters document.
type Status struct {
	Schema    int                `json:"schema"`
	Version   string             `json:"version"`
	Healthy   bool               `json:"healthy"` // no finding of level "fail"
	Now       time.Time          `json:"now"`
	StartedAt time.Time          `json:"started_at"`
	Process   Process            `json:"process"`
	Listeners []Listener         `json:"listeners"`
	Stages    []ledger.Statement `json:"stages"` // the books of the collect line
	Flows     FlowTable          `json:"flows"`
	Store     Store              `json:"store"`
	Inventory *Inventory         `json:"inventory"` // null without an inventory file
	Exporters []Exporter         `json:"exporters"`
	Outputs   []Output           `json:"outputs"` // who gets records and datagrams beside the store
	Findings  []Finding          `json:"findings"`
}

// Process is what the server costs.
type Process struct {
	PID           int     `json:"pid"`
	ResidentBytes uint64  `json:"resident_bytes"`
	CPUSeconds    float64 `json:"cpu_seconds"`
	Goroutines    int     `json:"goroutines"`
}

// Listener is one socket that flow exporters send to, or the HTTP socket.
type Listener struct {
	Name             string `json:"name"` // "flows" or "http"
	Address          string `json:"address"`
	Network          string `json:"network"`           // "udp", "tcp", "tls" or "dtls"
	Datagrams        uint64 `json:"datagrams"`         // of streams: messages
	DroppedDatagrams uint64 `json:"dropped_datagrams"` // by the kernel, the receive buffer was full
	BufferBytes      uint64 `json:"buffer_bytes"`      // receive buffer that the kernel granted
	Sockets          int    `json:"sockets"`
	Connections      int    `json:"connections"` // open now
	Refused          uint64 `json:"refused"`     // datagrams and connections of exporters that may not send, or beyond a bound
	Error            string `json:"error"`       // why new certificates are not in use, "" when they are
}

// FlowTable is the flows that are remembered to find out which observer of each one counts.
type FlowTable struct {
	Known     uint64 `json:"known"`     // directions
	Forgotten uint64 `json:"forgotten"` // to make room, since the start: what comes of them next may be counted twice
	Ambiguous uint64 `json:"ambiguous"` // records that fitted two flows or segments
	Retimed   uint64 `json:"retimed"`   // records whose times could not be right, stored at the time of their receipt; since the start
}

// Store is the state of the embedded store.
type Store struct {
	Dir       string     `json:"dir"`
	Rows      uint64     `json:"rows"` // durable
	Pending   uint64     `json:"pending_rows"`
	Segments  uint64     `json:"segments"`
	SizeBytes uint64     `json:"size_bytes"`
	DataFrom  *time.Time `json:"data_from"` // null for an empty store
	DataUntil *time.Time `json:"data_until"`

	RollupRows  uint64 `json:"rollup_rows"` // of sealed hours
	RollupBytes uint64 `json:"rollup_bytes"`

	UnmergedRollups int `json:"-"` // roll-ups of single hours; in the metrics only

	Flushes *Flushes `json:"flushes"` // null when nothing was stored since the start, and for a store that does not tell
}

// FlushBuckets are the upper bounds of the buckets of Flushes, in seconds.
var FlushBuckets = [...]float64{.005, .01, .02, .03, .05, .075, .1, .2, .5, 1, 2, 5, 10, 30}

// Flushes is how long batches of records took from full, or due, to durable.
type Flushes struct {
	Batches    uint64  `json:"batches"`
	Latest     int     `json:"latest"` // of Batches: those of the last ten minutes, 512 at most, that the following are of
	P50Seconds float64 `json:"p50_seconds"`
	P99Seconds float64 `json:"p99_seconds"`
	MaxSeconds float64 `json:"max_seconds"`

	SumSeconds float64                   `json:"-"` // of all
	Below      [len(FlushBuckets)]uint64 `json:"-"` // of all: those that took no longer than each bound
}

// Inventory is the state of the inventory file.
type Inventory struct {
	Path      string    `json:"path"`
	LoadedAt  time.Time `json:"loaded_at"`
	VNICs     int       `json:"vnics"`
	Hosts     int       `json:"hosts"`
	Observers int       `json:"observers"`
	Tenants   int       `json:"tenants"`
	Error     string    `json:"error"` // why the newest version of the file is not in use, "" when it is
}

// Exporter is one observation domain of one exporting process. Silent ones stay listed.
type Exporter struct {
	Address                string    `json:"address"`
	Domain                 uint32    `json:"domain"`
	Name                   string    `json:"name"` // of the observer, from inventory; "" when not known
	Protocol               string    `json:"protocol"`
	State                  string    `json:"state"` // "active", "silent"
	FirstSeen              time.Time `json:"first_seen"`
	LastSeen               time.Time `json:"last_seen"`
	Datagrams              uint64    `json:"datagrams"`
	Records                uint64    `json:"records"`
	OptionRecords          uint64    `json:"option_records"`
	LostRecords            uint64    `json:"lost_records"` // by sequence numbers
	Templates              int       `json:"templates"`
	TemplateMissingRecords uint64    `json:"template_missing_records"` // in data sets that came before their template; each set counts as one, its records cannot be told
	UnknownFields          uint64    `json:"unknown_fields"`
	Errors                 uint64    `json:"errors"` // datagrams that could not be decoded
	ClockSkewSeconds       *float64  `json:"clock_skew_seconds"`
	RecordsPerSecond       float64   `json:"records_per_second"` // mean over the last minute
	LossRatio              float64   `json:"loss_ratio"`         // part of what it sent that did not come, 0 to 1
	LossUnit               string    `json:"loss_unit"`          // what its sequence numbers count: "records", "datagrams", "flows"
	ShedDatagrams          uint64    `json:"shed_datagrams"`     // dropped here, because it sent more than was decoded
	NotSent                uint64    `json:"not_sent"`           // flows that it could not send, by its own account
	TemplatesMissing       int       `json:"templates_missing"`  // data sets that wait for their template now
	TemplateConflicts      uint64    `json:"template_conflicts"` // templates of one number that differ between its sessions
	BorrowedRecords        uint64    `json:"borrowed_records"`   // decoded with a template of another domain or session
	Sampling               uint32    `json:"sampling"`           // one packet in so many is counted
	SamplingSource         string    `json:"sampling_source"`    // "none", "in-record", "announced", "platform", "config", "assumed", "unknown", "self-scaled"
	SamplingNote           string    `json:"sampling_note"`      // what to do about it, "" for nothing
	UnknownElements        string    `json:"unknown_elements"`   // without a name, as enterprise/identifier
	Feeds                  string    `json:"feeds"`              // reports that its fields are enough for
	Counters               uint64    `json:"counter_samples"`    // sFlow
}

// Exporters is the list of all exporters.
type Exporters struct {
	Schema int        `json:"schema"`
	Now    time.Time  `json:"now"`
	Rows   []Exporter `json:"rows"`
}

// Output is one receiver of records, or of datagrams as they came.
type Output struct {
	Name       string         `json:"name"`
	To         string         `json:"to"`
	Unit       string         `json:"unit"` // "records" or "datagrams"
	In         uint64         `json:"in"`   // offered: in = sent + dropped + held
	Sent       uint64         `json:"sent"` // that the receiver confirmed; over UDP and to files that the system took
	Held       int64          `json:"held"`
	Dropped    []ledger.Count `json:"dropped"`
	LagSeconds float64        `json:"lag_seconds"` // how long the oldest of those held has waited
	Messages   uint64         `json:"messages"`
	Bytes      uint64         `json:"bytes"`
	Retries    uint64         `json:"retries"`
	Error      string         `json:"error"`    // the last one, "" for none
	ErrorAt    *time.Time     `json:"error_at"` // null without one
	Note       string         `json:"note"`
}

// Finding is something an operator should know.
type Finding struct {
	Level  string `json:"level"` // "warn" or "fail"
	What   string `json:"what"`
	Why    string `json:"why"`
	Action string `json:"action"`
}

// FilterCheck says whether a filter expression is valid, and where the mistake is.
type FilterCheck struct {
	OK    bool   `json:"ok"`
	Error *Fault `json:"error"` // null when it is valid
}

// Completion is one text that may stand at a place of a filter expression.
type Completion struct {
	Text   string `json:"text"`
	Kind   string `json:"kind"`   // "field", "operator", "keyword", "value"
	Detail string `json:"detail"` // what it means, or how often it occurs
	From   int    `json:"from"`   // the text replaces the bytes from here
	To     int    `json:"to"`     // to here
}

// Completions is a list of completions, the most likely first.
type Completions struct {
	Completions []Completion `json:"completions"`
}

// Tick is the data of a live event.
type Tick struct {
	Now       time.Time  `json:"now"`
	DataUntil *time.Time `json:"data_until"` // newest stored t_end
	Rows      uint64     `json:"rows"`       // stored rows
	Records   uint64     `json:"records"`    // received since the start
	Lost      uint64     `json:"lost_records"`
}
