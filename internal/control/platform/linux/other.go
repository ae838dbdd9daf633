//go:build !linux

package linux

// Kind is the word for this room, which is empty on other systems.
const Kind = "linux"
