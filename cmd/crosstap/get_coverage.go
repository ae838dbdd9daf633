//go:build !agent

package main

import (
	"fmt"
	"net/http"
	"slices"

	"crosstap/internal/serve/controlapi"

	"github.com/spf13/cobra"
)

// gotCoverage is what taps see of the machines' ports of one host: parts of their bytes.
type gotCoverage struct {
	Platform string   `json:"platform"`
	Host     string   `json:"host"`
	Ports    int      `json:"ports"`
	OneWay   int      `json:"one_way"`
	Seen     float64  `json:"seen"`      // at least
	SeenMost float64  `json:"seen_most"` // at most
	Why      []string `json:"why"`       // what taps leave out, and why there are bounds
}

// getCoverage lists what taps see now, host by host, the blindest first.
func getCoverage(cmd *cobra.Command, src *source, l *look, host string) error {
	if err := l.check(); err != nil {
		return err
	}
	c := &controller{server: src.server, timeout: src.timeout}
	var doc controlapi.Taps
	if _, err := c.call(cmd.Context(), cmd.ErrOrStderr(), http.MethodGet, "taps", nil, nil, &doc); err != nil {
		return err
	}
	rows, hosts := []gotCoverage{}, []string{}
	for _, h := range doc.Coverage.Hosts {
		hosts = append(hosts, h.Host)
		if host == "" || host == h.Host {
			rows = append(rows, gotCoverage{h.Platform, h.Host, h.Ports, h.OneWay, h.Before, h.BeforeMost, h.BeforeWhy})
		}
	}
	if host != "" && !slices.Contains(hosts, host) {
		return notThere("get", "host with machines", host, hosts)
	}
	if err := printGot(cmd, l, rows); err != nil {
		return err
	}
	if host == "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "taps see %s of the bytes of %d ports; the report \"crosstap coverage\" compares flows with counters\n", share(1, doc.Coverage.Before, doc.Coverage.BeforeMost), doc.Coverage.Ports)
	}
	printSome(cmd.ErrOrStderr(), "left out: ", leftOut(&doc.Coverage))
	return nil
}
