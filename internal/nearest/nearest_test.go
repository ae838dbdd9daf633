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
