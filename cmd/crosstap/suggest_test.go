package main

import (
	"io"
	"strings"
	"testing"
)

// TestNumberOfArguments: what is missing or too many is said with how the command is written, and its exit code is that of wrong usage.
func TestNumberOfArguments(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		root := newRoot(args...)
		root.SetArgs(args)
		root.SetOut(io.Discard)
		root.SetErr(io.Discard)
		err := root.Execute()
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "arg(s)") {
			t.Errorf("%q: %v, want %s…", args, err, want)
		}
		if code := exitCode(err); code != exitUsage {
			t.Errorf("%q: exit code %d, want %d", args, code, exitUsage)
		}
	}
	f("an argument is missing; usage: crosstap capture TARGET", "capture")
	f("an argument is missing; usage: crosstap backup DIR TARGET", "backup", "a")
	f(`"c" is an argument too many; usage: crosstap backup DIR TARGET`, "backup", "a", "b", "c")
	f("an argument is missing; usage: crosstap token revoke ID", "token", "revoke")
	f(`"2" is an argument too many; usage: crosstap history`, "history", "1", "2")
	f(`"now" is an argument too many; usage: crosstap status`, "status", "now")
	f("an argument is missing; usage: crosstap get ", "get")
	f(`"c" is an argument too many; usage: crosstap get `, "get", "a", "b", "c")
	f(`"serv": expected one of serve, tap, demo; did you mean "serve"?`, "doctor", "serv")
	f(`unknown command "paris"; did you mean "pairs"?`, "paris")
}
