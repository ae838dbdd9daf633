// Package early prepares the memory of the full program before its libraries fill it with what they make when they are initialised. It imports so little that
// it is initialised before nearly all of them.
package early
