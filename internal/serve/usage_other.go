//go:build !linux

package serve

// usage is not known here.
func usage() (rss uint64, cpu float64) { return 0, 0 }
