package testkit

import "testing"

// Allocs returns how many allocations a call of f makes: the least of a few measurements, since the runtime's own work (a collection
// that empties a pool, a timer) counts in each. It ends at the first measurement without any.
func Allocs(runs int, f func()) float64 {
	least := testing.AllocsPerRun(runs, f)
	for range 4 {
		if least == 0 {
			break
		}
		least = min(least, testing.AllocsPerRun(runs, f))
	}
	return least
}
