package serve

import (
	"fmt"
	"os"
	"runtime"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/collect/store"
	"crosstap/internal/obs"
	"crosstap/internal/serve/api"
)

// state is what the server's status is made of.
type state struct {
	store interface{ Stats() store.Stats }
}

// Status returns how the server is.
func (s *Server) Status() api.Status {
	st := s.state.store.Stats()
	out := api.Status{
		Schema: report.SchemaVersion, Version: obs.Version().Version, Now: time.Now().UTC().Truncate(time.Millisecond), StartedAt: s.started.UTC().Truncate(time.Millisecond),
		Process: process(), Store: storeStatus(s.cfg.AbsData(), st), Listeners: []api.Listener{}, Exporters: []api.Exporter{}, Findings: []api.Finding{},
	}
	out.Stages = append(out.Stages, st.Book)
	out.Findings = append(out.Findings, storeFindings(st)...)
	out.Healthy = true
	for _, f := range out.Findings {
		out.Healthy = out.Healthy && f.Level != "fail"
	}
	return out
}

func process() api.Process {
	rss, cpu := usage()
	return api.Process{PID: os.Getpid(), ResidentBytes: rss, CPUSeconds: cpu, Goroutines: runtime.NumGoroutine()}
}

func storeStatus(dir string, st store.Stats) api.Store {
	return api.Store{
		Dir: dir, Rows: st.Rows, Pending: uint64(st.PendingRows), Segments: uint64(st.Files), SizeBytes: st.Bytes,
		DataFrom: moment(st.OldestNS), DataUntil: moment(st.NewestNS),
	}
}

// moment converts nanoseconds since the epoch; 0 is none.
func moment(ns int64) *time.Time {
	if ns == 0 {
		return nil
	}
	t := time.Unix(0, ns).UTC()
	return &t
}

func storeFindings(st store.Stats) []api.Finding {
	var out []api.Finding
	if st.LastError != "" {
		out = append(out, api.Finding{Level: "fail", What: "store", Why: st.LastError, Action: "make room or repair the disk; records are shed and counted until then"})
	}
	if st.SetAside > 0 {
		out = append(out, api.Finding{Level: "warn", What: "store", Why: fmt.Sprintf("%d damaged files were set aside", st.SetAside), Action: "look into the folder aside of the store; their rows are missing"})
	}
	return out
}
