package agentapi

import (
	"errors"
	"testing"
)

func TestToken(t *testing.T) {
	f := func(text string, want Token) {
		t.Helper()
		got, err := ParseToken(text)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	f("crosstap1.ab.cd\n", Token{ID: "ab", Secret: "cd"})
	f("# of kvm-04\n\n  crosstap1.ab.cd.pin  \n", Token{"ab", "cd", "pin"})
	for _, text := range []string{"", "x", "crosstap1.ab", "crosstap1..cd", "crosstap1.ab.", "crosstap1.a.b.c.d", "crosstap2.a.b", "crosstap1.a.b\ncrosstap1.c.d"} {
		if got, err := ParseToken(text); !errors.Is(err, ErrToken) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	if b := (Token{"ab", "cd", "pin"}).Bearer(); b != "crosstap1.ab.cd" {
		t.Errorf("the server is shown %q", b)
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add("crosstap1.ab.cd.pin")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseToken(text)
		if err != nil {
			return
		}
		if back, err := ParseToken(token.String()); err != nil || back != token {
			t.Errorf("%q: %+v, %+v, %v", text, token, back, err)
		}
	})
}
