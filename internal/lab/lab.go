// Package lab builds a small data centre out of network namespaces: two hosts with a vSwitch each, kernel
// VXLAN between them, VMs with real programs, and places to tap. Everything lives inside one
// process, the lab init, which is process 1 of its own process, network and mount namespaces: when it ends, for
// whatever reason, the kernel ends all that was started in it, and nothing is left behind.
//
// The caller's side is Lab: it starts the lab init (the same binary again) and gives it orders over a socket pair.
// When the caller dies, the socket's end tells the lab init to end as well.
package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"
)

// Process is a program to run in one of the lab's namespaces.
type Process struct {
	Name      string   // unique in the lab
	Namespace string   // of a host, VM or sensor, or CollectorNS
	Argv      []string // Argv[0] "" stands for this binary
	Env       []string // added to the environment
	Out       string   // file for standard output, relative to the lab's directory; "" for the log
	Notify    bool     // readiness by the protocol of sd_notify(3)
	Ready     string   // or by this text in the log
	Listener  bool     // gets the lab's listener by the protocol of sd_listen_fds(3), named "http"
	Restart   bool     // start it again when it ends by itself
}

// Event is something that happened in the lab without being asked for.
type Event struct {
	Process string `json:"process"`
	Status  string `json:"status"`  // how it ended
	Restart bool   `json:"restart"` // and whether it runs again
	Err     string `json:"err,omitempty"`
}

// Exit says how a stopped process ended.
type Exit struct {
	Process string `json:"process"`
	Status  string `json:"status"` // "exit status 0" and so on
	Clean   bool   `json:"clean"`  // exited with 0, on its own or asked to
}

// The orders of a Lab and the answers of the lab init, one JSON document each.
type (
	order struct {
		ID    int       `json:"id"`
		Build *Topology `json:"build,omitempty"`
		Run   *Process  `json:"run,omitempty"`
		Stop  *stopping `json:"stop,omitempty"`
	}
	stopping struct {
		Process string `json:"process"`
		GraceMS int64  `json:"grace_ms"`
		Signal  int    `json:"signal"`
	}
	answer struct {
		ID    int    `json:"id"` // 0 for an event
		Err   string `json:"err,omitempty"`
		Exit  *Exit  `json:"exit,omitempty"`
		Event *Event `json:"event,omitempty"`
	}
)

// Lab is a running lab init. All methods are safe for concurrent use.
type Lab struct {
	conn   io.ReadWriteCloser
	pid    int // of the lab init, as the caller sees it
	wait   func() error
	events chan Event
	done   chan struct{} // closed when the lab init has ended

	mu      sync.Mutex // guards what follows, and the order of writes
	next    int
	waiting map[int]chan answer
	ended   error
}

// ErrEnded means that the lab init is gone.
var ErrEnded = errors.New("lab: the lab has ended")

func newLab(conn io.ReadWriteCloser, pid int, wait func() error) *Lab {
	l := &Lab{conn: conn, pid: pid, wait: wait, events: make(chan Event, 64), done: make(chan struct{}), waiting: map[int]chan answer{}}
	go l.read()
	return l
}

// read hands answers to whoever waits for them, until the lab init is gone.
func (l *Lab) read() {
	d := json.NewDecoder(l.conn)
	for {
		var a answer
		if d.Decode(&a) != nil {
			break
		}
		if a.Event != nil {
			select {
			case l.events <- *a.Event:
			default: // nobody listens; the log has it too
			}
			continue
		}
		l.mu.Lock()
		ch := l.waiting[a.ID]
		delete(l.waiting, a.ID)
		l.mu.Unlock()
		if ch != nil {
			ch <- a
		}
	}
	err := l.wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = ErrEnded
	if err != nil {
		l.ended = fmt.Errorf("%w: %w", ErrEnded, err)
	}
	for _, ch := range l.waiting {
		ch <- answer{Err: l.ended.Error()}
	}
	l.waiting = nil
	close(l.events)
	close(l.done)
}

// call sends one order and waits for its answer.
func (l *Lab) call(ctx context.Context, o order) (answer, error) {
	ch := make(chan answer, 1)
	if err := l.send(&o, ch); err != nil {
		return answer{}, err
	}
	select {
	case a := <-ch:
		if a.Err != "" {
			return a, errors.New(a.Err)
		}
		return a, nil
	case <-ctx.Done():
		l.mu.Lock()
		delete(l.waiting, o.ID)
		l.mu.Unlock()
		return answer{}, context.Cause(ctx)
	}
}

func (l *Lab) send(o *order, ch chan answer) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended != nil {
		return l.ended
	}
	l.next++
	o.ID = l.next
	l.waiting[o.ID] = ch
	if err := json.NewEncoder(l.conn).Encode(o); err != nil {
		delete(l.waiting, o.ID)
		return fmt.Errorf("lab: order: %w", err)
	}
	return nil
}

// Build makes the network.
func (l *Lab) Build(ctx context.Context, t Topology) error {
	_, err := l.call(ctx, order{Build: &t})
	return err
}

// Run starts a process and waits until it is ready, if it says so.
func (l *Lab) Run(ctx context.Context, p Process) error {
	_, err := l.call(ctx, order{Run: &p})
	return err
}

// Stop sends a signal to a process, by number, and waits for its end; after grace it is killed. A process that
// ended before is reported as it ended.
func (l *Lab) Stop(ctx context.Context, process string, signal int, grace time.Duration) (Exit, error) {
	a, err := l.call(ctx, order{Stop: &stopping{Process: process, Signal: signal, GraceMS: grace.Milliseconds()}})
	if err != nil {
		return Exit{Process: process}, err
	}
	return *a.Exit, nil
}

// Events returns what happens in the lab unasked. The channel is closed when the lab has ended.
func (l *Lab) Events() <-chan Event { return l.events }

// Done is closed when the lab has ended.
func (l *Lab) Done() <-chan struct{} { return l.done }

// Close ends the lab at once, with everything in it, and waits for that.
func (l *Lab) Close() error {
	err := l.conn.Close()
	<-l.done
	if errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return err
}

// logPath returns where a process's log is.
func logPath(dir, process string) string { return filepath.Join(dir, process+".log") }
