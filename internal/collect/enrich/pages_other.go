//go:build !linux

package enrich

func largePages[T any]([]T) {}
