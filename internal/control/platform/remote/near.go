package remote

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/rpc"
)

// Config says which platform it is.
type Config struct {
	Resource
	SSH     rpc.SSH
	Command string // what runs the far end; "" for the crosstap or crosstap-agent in the path there
	Log     *slog.Logger
}

// command finds what the packages install.
const command = `for c in crosstap crosstap-agent; do if command -v $c >/dev/null 2>&1; then exec $c platform; fi; done; ` +
	`echo 'neither crosstap nor crosstap-agent is in the path there: install one of them, or name it (option command)' >&2; exit 127`

// DefaultCommand runs the far end on a machine that has one of the packages.
func DefaultCommand() string { return "sh -c " + rpc.Quote(command) }

// Platform is the near end.
type Platform struct {
	cfg Config
	log *slog.Logger

	mu    sync.Mutex // held while a session is made
	now   *session   // nil without one
	onGap func(platform.Gap)
}

var (
	_ platform.Platform = (*Platform)(nil)
	_ platform.Gapper   = (*Platform)(nil)
)

// How a lost session is made again.
const (
	beginWait          = 30 * time.Second // for ssh and the greeting
	stepsWait          = time.Minute
	minPause, maxPause = 500 * time.Millisecond, 8 * time.Second
	lasted             = time.Minute // after that the pauses begin anew
)

// New returns a platform. It opens nothing.
func New(c Config) (*Platform, error) {
	switch {
	case c.Name == "":
		return nil, errors.New("remote: a platform needs a name")
	case c.SSH.Validate() != nil:
		return nil, fmt.Errorf("remote: %s: %w", c.Name, c.SSH.Validate())
	}
	if c.Command == "" {
		c.Command = DefaultCommand()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Platform{cfg: c, log: c.Log.With("platform", c.Name)}, nil
}

// Name implements platform.Platform.
func (p *Platform) Name() string { return p.cfg.Name }

// Kind implements platform.Platform.
func (p *Platform) Kind() string { return p.cfg.Kind }

// OnGap implements platform.Gapper.
func (p *Platform) OnGap(f func(platform.Gap)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onGap = f
}

// Close ends the session. What was made on the host stays.
func (p *Platform) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now != nil {
		_ = p.now.calls.Close(errClosed)
		p.now = nil
	}
	return nil
}

var errClosed = errors.New("remote: closed")

// session is one run of the far end.
type session struct {
	calls *rpc.Session[json.RawMessage]
	way   *rpc.Process
	peer  string
	gap   func(platform.Gap)
}

// session returns the present session, or makes one.
func (p *Platform) session(ctx context.Context) (*session, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now != nil && p.now.calls.Err() == nil {
		return p.now, nil
	}
	s, err := p.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: ssh %s: %w: %w", p.cfg.Name, p.cfg.SSH.Host, platform.ErrUnreachable, err)
	}
	p.now = s
	return s, nil
}

// dial starts the far end and opens the platform there.
func (p *Platform) dial(ctx context.Context) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, beginWait)
	defer cancel()
	way, err := p.cfg.SSH.Start(p.cfg.Command)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = way.Close() }) // what reads then ends
	defer stop()
	r := bufio.NewReaderSize(way, 64<<10)
	s := &session{calls: rpc.New[json.RawMessage](way), way: way, peer: p.cfg.SSH.Host, gap: p.onGap}
	if err := greeted(r); err != nil {
		if err = s.broken(err); ctx.Err() != nil {
			err = fmt.Errorf("no greeting within %v: %w", beginWait, err)
		}
		return nil, err
	}
	go s.read(r)
	if _, err := s.do(ctx, methodOpen, p.cfg.Resource); err != nil {
		_ = s.calls.Close(errClosed)
		return nil, err
	}
	return s, nil
}

// greeted reads until the far end's greeting: what else comes is a login shell's.
func greeted(r *bufio.Reader) error {
	for left := maxChatter; ; {
		b, err := line(r, nil, left)
		if err != nil {
			return err
		}
		got := string(bytes.TrimRight(b, "\r"))
		if got == greeting {
			return nil
		}
		if strings.HasPrefix(got, "crosstap platform ") {
			return fmt.Errorf("the crosstap there says %q, this one wants %q: install the same version on both", got, greeting)
		}
		left -= len(b) + 1
	}
}

func (s *session) read(r *bufio.Reader) {
	s.calls.Run(func() error {
		b, err := line(r, nil, maxMessage)
		if err != nil {
			return err
		}
		var m message
		if err := json.Unmarshal(b, &m); err != nil {
			return fmt.Errorf("not a message: %w", err)
		}
		s.take(&m)
		return nil
	}, s.broken)
}

func (s *session) take(m *message) {
	if m.Method == methodGap {
		var gap platform.Gap
		if s.gap != nil && json.Unmarshal(m.Body, &gap) == nil {
			s.gap(gap)
		}
		return
	}
	if m.Error != nil {
		s.calls.Answer(m.ID, nil, m.Error)
		return
	}
	s.calls.Answer(m.ID, m.Body, nil)
}

// broken says why the session ended, in the words of ssh or the far end when there are any.
func (s *session) broken(err error) error {
	if said := s.way.Why(); said != "" {
		return errors.New(said)
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("the far end closed the session")
	}
	return err
}

// do does one call.
func (s *session) do(ctx context.Context, method string, body any) (json.RawMessage, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return s.calls.Do(ctx, func(id uint32) error {
		t, err := text(&message{ID: id, Method: method, Body: b})
		if err != nil {
			return err
		}
		return s.calls.Write(ctx, t, s.broken)
	})
}

// call does one call in the present session and reads its answer into out, unless that is nil. What the far end refuses comes as it is; a
// session that breaks is platform.ErrUnreachable.
func (p *Platform) call(ctx context.Context, method string, body, out any) error {
	s, err := p.session(ctx)
	if err != nil {
		return err
	}
	answer, err := s.do(ctx, method, body)
	var refused *failure
	switch {
	case errors.As(err, &refused):
		return fmt.Errorf("host %s: %w", p.cfg.SSH.Host, err)
	case err != nil:
		return fmt.Errorf("%s: ssh %s: %w: %w", p.cfg.Name, p.cfg.SSH.Host, platform.ErrUnreachable, err)
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s: ssh %s: %s: %w", p.cfg.Name, p.cfg.SSH.Host, method, err)
	}
	return nil
}

// Read implements platform.Platform.
func (p *Platform) Read(ctx context.Context) (*platform.Snapshot, error) {
	var s snapshot
	if err := p.call(ctx, methodRead, nil, &s); err != nil {
		return nil, err
	}
	return s.snapshot(), nil
}

// Steps implements platform.Platform. Without a session nothing is to be done, and every session is refused: its objects stay.
func (p *Platform) Steps(now *platform.Snapshot, want platform.Want) ([]platform.Step, []platform.Refusal) {
	ctx, cancel := context.WithTimeout(context.Background(), stepsWait)
	defer cancel()
	var out stepsOut
	err := p.call(ctx, methodSteps, stepsIn{snapshotOf(now), want}, &out)
	if err == nil {
		return out.Steps, out.Refusals
	}
	var refused []platform.Refusal
	for i := range want.Sessions {
		s := &want.Sessions[i]
		refused = append(refused, platform.Refusal{
			Policy: s.Mark.Policy, Host: s.Host, Switch: s.Switch, Reason: platform.ReasonDown, Message: err.Error(), Fix: "it is tapped as soon as the host answers",
		})
	}
	return nil, refused
}

// Apply implements platform.Platform.
func (p *Platform) Apply(ctx context.Context, s platform.Step) error {
	return p.call(ctx, methodApply, s, nil)
}

// Undo implements platform.Platform.
func (p *Platform) Undo(ctx context.Context, s platform.Step) error {
	return p.call(ctx, methodUndo, s, nil)
}

// Counters implements platform.Platform.
func (p *Platform) Counters(ctx context.Context, owner string) (map[string]platform.Counter, error) {
	out := map[string]platform.Counter{}
	return out, p.call(ctx, methodCounters, owner, &out)
}

// Watch implements platform.Platform.
func (p *Platform) Watch(ctx context.Context, tell func(platform.Update)) error {
	pause := minPause
	for {
		began := time.Now()
		err := p.follow(ctx, tell)
		if ctx.Err() != nil {
			return nil
		}
		p.log.Warn("the host does not answer; trying again", "error", err)
		tell(platform.Update{AtNS: time.Now().UnixNano(), Lost: err})
		if time.Since(began) > lasted {
			pause = minPause
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
		pause = min(2*pause, maxPause)
	}
}

// follow tells updates until the session breaks.
func (p *Platform) follow(ctx context.Context, tell func(platform.Update)) error {
	for method := methodWatch; ; method = methodNext {
		var u update
		if err := p.call(ctx, method, nil, &u); err != nil {
			return err
		}
		tell(u.update())
	}
}
