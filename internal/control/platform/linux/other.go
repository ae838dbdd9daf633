//go:build !linux

package linux
