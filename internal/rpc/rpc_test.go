package rpc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
)

var errGone = errors.New("gone")

func same(err error) error { return err }

// pair is a session whose peer reads lines "ID TEXT" and answers what answer makes of them.
func pair(t *testing.T, answer func(id, text string) string) *Session[string] {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { far.Close() })
	go func() {
		in := bufio.NewScanner(far)
		for in.Scan() {
			id, text, _ := strings.Cut(in.Text(), " ")
			if out := answer(id, text); out != "" {
				fmt.Fprintln(far, out) //nolint:errcheck // the session may have ended
			}
		}
	}()
	s := New[string](near)
	in := bufio.NewReader(near)
	go s.Run(func() error {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		var id uint32
		var text string
		if _, err := fmt.Sscanf(line, "%d %s", &id, &text); err != nil {
			return err
		}
		s.Answer(id, text, nil)
		return nil
	}, same)
	return s
}

func call(ctx context.Context, s *Session[string], text string) (string, error) {
	return s.Do(ctx, func(id uint32) error { return s.Write(ctx, fmt.Appendf(nil, "%d %s\n", id, text), same) })
}

// Many calls at once get their own answers; what nobody asked for is nobody's.
func TestDo(t *testing.T) {
	s := pair(t, func(id, text string) string { return "999999 stray\n" + id + " " + strings.ToUpper(text) })
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			text := fmt.Sprintf("call%d", i)
			if got, err := call(t.Context(), s, text); got != strings.ToUpper(text) || err != nil {
				t.Errorf("%s: %q, %v", text, got, err)
			}
		})
	}
	all.Wait()
	if err := s.Close(errGone); err != nil || !errors.Is(s.Err(), errGone) {
		t.Errorf("%v, %v", err, s.Err())
	}
	if _, err := call(t.Context(), s, "late"); !errors.Is(err, errGone) {
		t.Errorf("a call after the end: %v", err)
	}
}

// A call ends with its context, with the session, and before it is sent when its context has ended already.
func TestDoEnds(t *testing.T) {
	asked := make(chan string, 10)
	s := pair(t, func(_, text string) string { asked <- text; return "" })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { _, err := call(ctx, s, "one"); ended <- err }()
	<-asked
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) || s.Err() != nil {
		t.Errorf("%v, %v", err, s.Err())
	}
	if _, err := call(ctx, s, "two"); !errors.Is(err, context.Canceled) || len(asked) > 0 {
		t.Errorf("%v, %d asked", err, len(asked))
	}
	go func() { _, err := call(t.Context(), s, "three"); ended <- err }()
	<-asked
	s.End(errGone)
	if err := <-ended; !errors.Is(err, errGone) {
		t.Error(err)
	}
	<-s.Done()
}

// A peer that says what cannot be read ends the session, and every call with it.
func TestRunFails(t *testing.T) {
	s := pair(t, func(string, string) string { return "nonsense" })
	if _, err := call(t.Context(), s, "x"); err == nil || s.Err() == nil {
		t.Errorf("%v, %v", err, s.Err())
	}
	<-s.Done()
}

func TestSSHArgs(t *testing.T) {
	s := SSH{User: "tap", Host: "kvm-4", Port: "2222", KeyFile: "/k"}
	if got := strings.Join(s.Args("x y"), " "); !strings.HasSuffix(got, "-p 2222 -l tap -i /k -- kvm-4 x y") || !strings.Contains(got, "BatchMode=yes") {
		t.Error(got)
	}
	for _, bad := range []SSH{{}, {Host: "-oProxyCommand=x"}, {Host: "h", User: "-x"}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
	if got := Quote("it's"); got != `'it'\''s'` {
		t.Error(got)
	}
}
