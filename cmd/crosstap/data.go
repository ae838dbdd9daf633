//go:build !agent

package main

import (
	"context"

	"crosstap/internal/ask"
	"crosstap/internal/serve"
)

// openData returns a client that asks the store directory itself, through the API in this process.
func openData(_ context.Context, dir string, elements []string) (*ask.Client, func() error, error) {
	h, done, err := serve.OpenData(dir, elements...)
	if err != nil {
		return nil, nil, exit(exitUsage, err)
	}
	return ask.NewLocal("data "+dir, h), done, nil
}
