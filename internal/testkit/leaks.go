package testkit

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Main runs the tests of a package and fails when goroutines are left of them. It gives those that are about to end the time that they need on
// a busy machine.
func Main(m *testing.M, options ...goleak.Option) {
	code := m.Run()
	if code == 0 {
		if err := leaks(options...); err != nil {
			fmt.Fprintf(os.Stderr, "goroutines are left: %v\n", err)
			code = 1
		}
	}
	os.Exit(code)
}

// NoLeaks fails the test when goroutines are left at its end; those that are there now, and options, are left out.
func NoLeaks(t testing.TB, options ...goleak.Option) {
	options = append(options, goleak.IgnoreCurrent())
	t.Cleanup(func() {
		if err := leaks(options...); err != nil {
			t.Errorf("goroutines are left: %v", err)
		}
	})
}

func leaks(options ...goleak.Option) (err error) {
	for end := time.Now().Add(30 * time.Second); ; {
		if err = goleak.Find(options...); err == nil || time.Now().After(end) {
			return err
		}
	}
}
