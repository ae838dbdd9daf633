package main

import (
	"fmt"

	"crosstap/internal/kernel"
)

// sweepKernel removes what processes of ours that were killed have left in the kernel, and says what.
func sweepKernel() (what []string, err error) {
	gone, err := kernel.Sweep("")
	for _, g := range gone {
		what = append(what, fmt.Sprintf("a program at %s", g.Interface))
	}
	return what, err
}
