package remote

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"crosstap/internal/control/platform"
)

// quietPlatform has nothing and does nothing.
type quietPlatform struct{}

func (quietPlatform) Name() string { return "quiet" }
func (quietPlatform) Kind() string { return "linux" }
func (quietPlatform) Watch(ctx context.Context, update func(platform.Update)) error {
	update(platform.Update{Whole: true})
	return nil
}
func (quietPlatform) Read(context.Context) (*platform.Snapshot, error) {
	return platform.NewSnapshot("quiet"), nil
}
func (quietPlatform) Steps(*platform.Snapshot, platform.Want) ([]platform.Step, []platform.Refusal) {
	return nil, nil
}
func (quietPlatform) Apply(context.Context, platform.Step) error { return platform.ErrGone }
func (quietPlatform) Undo(context.Context, platform.Step) error  { return nil }
func (quietPlatform) Counters(context.Context, string) (map[string]platform.Counter, error) {
	return nil, nil
}

// Whatever is asked, each call is answered once with a message of ours, and the far end ends with its input.
func FuzzServe(f *testing.F) {
	f.Add([]byte(`{"id":1,"method":"open","body":{"name":"x","kind":"linux"}}` + "\n" + `{"id":2,"method":"read"}` + "\n" + `{"id":3,"method":"apply","body":{}}` + "\n"))
	f.Add([]byte(`{"id":1,"method":"open","body":{}}` + "\n" + `{"id":2,"method":"steps","body":{"Now":{"Ports":{"a":null}},"Want":{}}}` + "\n"))
	f.Add([]byte(`{"id":1,"method":"open","body":{}}` + "\n" + `{"id":2,"method":"watch"}` + "\n" + `{"id":3,"method":"next"}` + "\n"))
	f.Add([]byte("{\n[]\nnull\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		_ = Serve(t.Context(), bytes.NewReader(in), &out, func(Resource) (platform.Platform, error) { return quietPlatform{}, nil })
		first, rest, _ := strings.Cut(out.String(), "\n")
		if first != greeting {
			t.Fatalf("greeting %q", first)
		}
		answers := 0
		for l := range strings.Lines(rest) {
			var m message
			if err := json.Unmarshal([]byte(l), &m); err != nil {
				t.Fatalf("%q: %v", l, err)
			}
			answers++
		}
		if calls := bytes.Count(in, []byte("\n")); answers > calls {
			t.Fatalf("%d answers to %d lines", answers, calls)
		}
	})
}

// What a login shell prints comes before the greeting; too much of it, or another version, is a mistake.
func TestGreeted(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		err := greeted(bufio.NewReader(strings.NewReader(text)))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
	f(greeting+"\n", "")
	f("Welcome to kvm-4\r\n\n"+greeting+"\r\n", "")
	f("crosstap platform 2\n", "install the same version on both")
	f(strings.Repeat("x", maxChatter+1)+"\n", "more than")
	f(strings.Repeat("hello\n", maxChatter), "more than")
	f("bye\n", io.EOF.Error())
}

// Errors keep what a control line decides on.
func TestFailure(t *testing.T) {
	for _, kind := range []error{platform.ErrChanged, platform.ErrGone, platform.ErrDenied, platform.ErrUnreachable} {
		b, err := json.Marshal(failureOf(errors.Join(errors.New("port vnet1"), kind)))
		if err != nil {
			t.Fatal(err)
		}
		var f failure
		if err := json.Unmarshal(b, &f); err != nil || !errors.Is(&f, kind) || !strings.Contains(f.Error(), "vnet1") {
			t.Errorf("%s: %v, %v", b, &f, err)
		}
	}
}
