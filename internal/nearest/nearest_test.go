package nearest

import "testing"

func TestOf(t *testing.T) {
	words := []string{"pairs", "conversations", "flows", "octets", "http", "http-host", "f"}
	f := func(got, want string) {
		t.Helper()
		if near := Of(got, words); near != want {
			t.Errorf("%q: %q, want %q", got, near, want)
		}
	}
	f("paris", "pairs")
	f("pairs", "pairs")
	f("octet", "octets")
	f("conversation", "conversations")
	f("htp", "http")
	f("http-hots", "http-host")
	f("HTTP", "http")
	f("xyz", "")
	f("", "")
	f("zzzzzzzzzzzzzzzzzzzzz", "")
}

func TestHint(t *testing.T) {
	words := []string{"pairs", "flows"}
	f := func(got, hint, behind string) {
		t.Helper()
		if h := Hint(got, words, "one of: pairs, flows"); h != hint {
			t.Errorf("%q: hint %q, want %q", got, h, hint)
		}
		if b := Behind(got, words); b != behind {
			t.Errorf("%q: behind %q, want %q", got, b, behind)
		}
	}
	f("paris", `did you mean "pairs"?`, `; did you mean "pairs"?`)
	f("xyz", "one of: pairs, flows", "")
}
