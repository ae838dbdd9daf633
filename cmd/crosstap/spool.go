package main

import (
	"os"
	"path/filepath"
)

// defaultSpoolDir is where exporters keep what waits: under the service manager's state directory, the system's for root, the
// user's own otherwise (XDG base directories). "" when there is none.
func defaultSpoolDir() string {
	if dir := os.Getenv("STATE_DIRECTORY"); dir != "" {
		return filepath.Join(filepath.SplitList(dir)[0], "spool")
	}
	if os.Geteuid() == 0 {
		return "/var/lib/crosstap/spool"
	}
	dir := os.Getenv("XDG_STATE_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		dir = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(dir, "crosstap", "spool")
}
