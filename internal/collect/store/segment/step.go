package segment

import "os"

// step is called before each change of a store's folder. A test ends the process there; nothing else sets it.
var step = func() {}

// remove deletes a file.
func remove(path string) {
	step()
	_ = os.Remove(path) // what stays is deleted when the store is opened
}

// rename gives a file its final name.
func rename(from, to string) error {
	step()
	return os.Rename(from, to)
}
