// Package start has a program begin quickly. It imports almost nothing and its path sorts before those of libraries, so that it is initialised
// before they are.
package start

import (
	"os"
	"runtime"
	"runtime/debug"
	"sync"

	"crosstap/internal/start/early"
)

// What the packages of the server make when they are initialised is as much as Go lets a program have before memory is collected for the first time. At
// the start that would find nothing to give back.
const (
	percentAtStart = 400 // of 4 MiB
	percent        = 100 // Go's own
)

func init() {
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(percentAtStart)
	early.Room()
	runtime.SetFinalizer(new([64]byte), func(*[64]byte) { Over() }) // at the first collection
}

var over = sync.OnceFunc(func() {
	early.Over()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
})

// Over says that a program that stays begins to do its work; for any other the start is over at the first collection. It may be called more than once.
func Over() { over() }
