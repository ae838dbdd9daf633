// Package start has a program begin quickly. It imports almost nothing and its path sorts before those of libraries, so that it is initialised
// before they are.
package start

import (
	"os"
	"runtime/debug"

	"crosstap/internal/start/early"
)

// What the packages of the server make when they are initialised is as much as Go lets a program have before memory is collected for the first time. At
// the start that would find nothing to give back.
const (
	percentAtStart = 400 // of 4 MiB
	percent        = 100 // Go's own
)

var collectsLater = os.Getenv("GOGC") == ""

func init() {
	if collectsLater {
		debug.SetGCPercent(percentAtStart)
	}
}

// Over says that the program begins to do its work. It may be called more than once.
func Over() {
	early.Over()
	if collectsLater {
		collectsLater = false
		debug.SetGCPercent(percent)
	}
}
