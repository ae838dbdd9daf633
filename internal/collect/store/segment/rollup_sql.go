package segment

import (
	"time"

	"crosstap/internal/collect/store"
)

// rollupRows gives what the rows of a table expression add up to. rollup.go makes the same in Go for sealed hours; a test compares the two.
func rollupRows(table, where string, step time.Duration) string {
	return store.RollupManyRows(table, where, step, false)
}
