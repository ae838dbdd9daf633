package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// heartbeat is the longest silence on a live stream; proxies cut idle connections after a minute.
const heartbeat = 15 * time.Second

// writeTimeout bounds how long a subscriber may block one event. A slow one is cut and comes again.
const writeTimeout = 10 * time.Second

// events sends a tick when there is news: the newest stored time or a count has changed. Nothing is queued: a
// subscriber that reads slowly gets the state as it is when its turn comes.
func (a *API) events(w http.ResponseWriter, r *http.Request) {
	select {
	case a.subscribers <- struct{}{}:
		defer func() { <-a.subscribers }()
	default:
		p := problem(http.StatusServiceUnavailable, fmt.Sprintf("%d clients already follow live; try again later", cap(a.subscribers)))
		p.header = http.Header{"Retry-After": {"5"}}
		p.write(w)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // proxies that would hold events back
	if r.Method == http.MethodHead {
		return
	}
	s := stream{w: w, rc: http.NewResponseController(w)}
	ticker := time.NewTicker(a.cfg.Tick)
	defer ticker.Stop()
	for err := s.send("retry: 2000\n\n"); err == nil; {
		if err = s.tick(a.status()); err != nil {
			return
		}
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return
		case <-a.closing:
			return
		}
	}
}

// stream is one subscriber.
type stream struct {
	w        http.ResponseWriter
	rc       *http.ResponseController
	id       uint64
	last     Tick // without Now
	lastSent time.Time
}

// tick sends the state if it differs from the last one sent, else now and then a comment.
func (s *stream) tick(st Status) error {
	t := tickOf(st)
	changed := s.id == 0 || t.Rows != s.last.Rows || t.Records != s.last.Records || t.Lost != s.last.Lost || !sameTime(t.DataUntil, s.last.DataUntil)
	if !changed {
		if time.Since(s.lastSent) < heartbeat {
			return nil
		}
		return s.send(": still here\n\n")
	}
	data, err := json.Marshal(t)
	if err != nil {
		return err
	}
	s.last = t
	s.id++
	return s.send(fmt.Sprintf("event: tick\nid: %d\ndata: %s\n\n", s.id, data))
}

func tickOf(st Status) Tick {
	t := Tick{Now: st.Now, DataUntil: st.Store.DataUntil, Rows: st.Store.Rows}
	for _, e := range st.Exporters {
		t.Records += e.Records
		t.Lost += e.LostRecords
	}
	return t
}

func sameTime(a, b *time.Time) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(*b)
}

func (s *stream) send(text string) error {
	if err := s.rc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	s.lastSent = time.Now()
	return s.rc.Flush()
}
