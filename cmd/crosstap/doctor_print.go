package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"crosstap/internal/doctor"
)

// findings is the document of "doctor".
type findings struct {
	Healthy bool            `json:"healthy"`
	Rows    []doctor.Result `json:"rows"`
}

// printFindings prints a table, or by document in another format. The error is the exit code of what failed.
func printFindings(w io.Writer, format string, quiet bool, list []doctor.Result, document func(w io.Writer, format string, doc any) error) error {
	doc := findings{Healthy: !doctor.Failed(list), Rows: list}
	if quiet {
		doc.Rows = slices.DeleteFunc(slices.Clone(list), func(r doctor.Result) bool { return r.Level == doctor.OK })
	}
	var err error
	if format == "table" {
		_, err = io.WriteString(w, findingsText(doc.Rows)+tally(list))
	} else {
		err = document(w, format, doc)
	}
	if err == nil && !doc.Healthy {
		return exit(exitFinding, nil)
	}
	return err
}

// findingsText gives a line for each finding, and a second one with the way out.
func findingsText(rows []doctor.Result) string {
	var b strings.Builder
	area := ""
	for _, r := range rows {
		if r.Area != area {
			fmt.Fprintln(&b, r.Area)
			area = r.Area
		}
		fmt.Fprintf(&b, "  %-4s  %s: %s\n", r.Level, r.Check, r.Found)
		if r.Level != doctor.OK {
			fmt.Fprintf(&b, "        for %s", r.For)
			if r.Action != "" {
				fmt.Fprintf(&b, ": %s", r.Action)
			}
			fmt.Fprintln(&b)
		}
	}
	return b.String()
}

// tally counts all findings, shown or not.
func tally(list []doctor.Result) string {
	counts := map[doctor.Level]int{}
	for _, r := range list {
		counts[r.Level]++
	}
	return fmt.Sprintf("%d ok, %d warn, %d fail\n", counts[doctor.OK], counts[doctor.Warn], counts[doctor.Fail])
}
