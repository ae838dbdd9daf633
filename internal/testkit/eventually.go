package testkit

import (
	"testing"
	"time"
)

// Eventually fails the test unless something becomes so within two minutes, which is long for a machine with much to do.
func Eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never came true: %s", what)
		}
	}
}
