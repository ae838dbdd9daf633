package report

// Slice makes questions be asked in slices of about that many rows of roll-ups, until restore is called.
func Slice(rows uint64) (restore func()) {
	many, each := manySums, sliceSums
	manySums, sliceSums = rows, rows
	return func() { manySums, sliceSums = many, each }
}

// NoRest makes all sums be made by the engine of which the store has not all, until restore is called.
func NoRest() (restore func()) {
	was := mostRest
	mostRest = 1
	return func() { mostRest = was }
}

// InSQL makes all sums be made by the engine, until restore is called.
func InSQL() (restore func()) {
	storedPairs = false
	return func() { storedPairs = true }
}
