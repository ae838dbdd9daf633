//go:build !agent

package main

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"crosstap/internal/answer"
	"crosstap/internal/ask"
	"crosstap/internal/collect/store"
	"crosstap/internal/nearest"

	"github.com/spf13/cobra"
)

var queryFormats = []string{"table", "json", "jsonl", "csv", "parquet"}

// inSQL is one run of the query command.
type inSQL struct {
	source
	output, since, until string
	limit                int
}

func newQuery() *cobra.Command {
	in := &inSQL{}
	cmd := &cobra.Command{
		Use: "query SQL", Short: "Ask the stored flows in SQL", GroupID: "ask", Args: cobra.MinimumNArgs(1),
		Long: `query runs one SELECT over the stored flows, on a server or, with --data, on a store directory. It cannot change anything, and reads
nothing but these views:

  flows      every observer's record             canonical  the one record of each packet that sums read
  pairs_1h   roll-ups between workloads by the hour: small, and kept longer than the records

The manual's page "Asking in SQL" lists their columns. addr('10.0.0.1') gives an address to compare with, vni(segment) the number of
a segment, mac(src_mac) an address of layer 2 as text.

-o parquet writes all rows, however many, as they come; the other formats have a limit.`,
		Example: `  crosstap query "SELECT vni(segment), sum(octets) FROM canonical GROUP BY ALL ORDER BY 2 DESC" --since 1h
  crosstap query "SELECT src_vm, dst_vm, service_port, sum(octets) AS octets FROM pairs_1h GROUP BY ALL ORDER BY octets DESC LIMIT 10" --since 30d
  crosstap query "SELECT * FROM flows WHERE src = addr('10.0.0.1') LIMIT 5" --data /var/lib/crosstap -o jsonl
  crosstap query "SELECT * FROM canonical" --since 7d --data /var/lib/crosstap -o parquet > week.parquet`,
		RunE: func(cmd *cobra.Command, args []string) error { return in.run(cmd, strings.Join(args, " ")) },
	}
	in.source.flags(cmd)
	f := cmd.Flags()
	f.StringVarP(&in.output, "output", "o", "table", "format: "+strings.Join(queryFormats, ", "))
	f.StringVar(&in.since, "since", "", `start of what the views hold, such as 24h or "2026-01-02 15:04" (default everything)`)
	f.StringVar(&in.until, "until", "now", "end of what the views hold")
	f.IntVar(&in.limit, "limit", 0, "rows at most (default 10000; all with -o parquet)")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(queryFormats, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (in *inSQL) run(cmd *cobra.Command, text string) (err error) {
	if !slices.Contains(queryFormats, in.output) {
		return usagef("-o %q: expected %s%s", in.output, strings.Join(queryFormats, ", "), nearest.Behind(in.output, queryFormats))
	}
	q := url.Values{"q": {text}}
	for name, moment := range map[string]string{"from": in.since, "to": in.until} {
		if moment == "" || moment == "now" {
			continue
		}
		t, err := ask.Moment(moment, time.Now(), time.Local)
		if err != nil {
			return usagef("--%s: %w", map[string]string{"from": "since", "to": "until"}[name], err)
		}
		q.Set(name, t)
	}
	if in.limit != 0 {
		q.Set("limit", strconv.Itoa(in.limit))
	}
	c, done, err := in.open(cmd.Context())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	if in.output == "parquet" {
		q.Set("format", in.output)
		return in.copy(cmd.Context(), c, "api/v1/sql", q, "application/vnd.apache.parquet", cmd.OutOrStdout())
	}
	body, err := in.get(cmd.Context(), c, "api/v1/sql", q)
	if err != nil {
		return err
	}
	var a store.SQLAnswer
	dec := json.NewDecoder(strings.NewReader(string(body)))
	dec.UseNumber() // 64-bit counters keep their digits
	if err := dec.Decode(&a); err != nil {
		return fmt.Errorf("query: answer of %s: %w", c.Server(), err)
	}
	if err := in.print(cmd.OutOrStdout(), body, &a); err != nil {
		return err
	}
	more := ""
	if a.Truncated {
		more = ", and there are more (--limit)"
	}
	_, err = fmt.Fprintf(cmd.ErrOrStderr(), "%s%s in %v\n", plural(len(a.Rows), "row"), more, a.Took.Round(time.Millisecond))
	return err
}

// print writes the answer.
func (in *inSQL) print(to io.Writer, body []byte, a *store.SQLAnswer) error {
	w := bufio.NewWriter(to)
	names := make([]string, len(a.Columns))
	for i, c := range a.Columns {
		names[i] = c.Name
	}
	var err error
	switch in.output {
	case "json":
		_, err = w.Write(body)
	case "jsonl":
		err = sqlLines(w, names, a.Rows)
	case "csv":
		err = sqlCSV(w, names, a.Rows)
	default:
		tab := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
		fmt.Fprintln(tab, strings.ToUpper(strings.Join(names, "\t")))
		for _, row := range a.Rows {
			fmt.Fprintln(tab, strings.Join(sqlTexts(row), "\t"))
		}
		err = tab.Flush()
	}
	return errors.Join(err, w.Flush())
}

// sqlLines writes each row as a JSON object in the order of the columns.
func sqlLines(w *bufio.Writer, names []string, rows [][]any) error {
	for _, row := range rows {
		w.WriteByte('{')
		for i, v := range row {
			name, err := json.Marshal(names[i])
			if err != nil {
				return err
			}
			value, err := json.Marshal(v)
			if err != nil {
				return err
			}
			if i > 0 {
				w.WriteByte(',')
			}
			w.Write(name)
			w.WriteByte(':')
			w.Write(value)
		}
		w.WriteString("}\n")
	}
	return nil
}

func sqlCSV(w io.Writer, names []string, rows [][]any) error {
	out := csv.NewWriter(w)
	line := func(texts []string) error {
		cells := make([]string, len(texts))
		for i, text := range texts {
			cells[i] = answer.CSVCell(text)
		}
		return out.Write(cells)
	}
	if err := line(names); err != nil {
		return err
	}
	for _, row := range rows {
		if err := line(sqlTexts(row)); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// sqlTexts gives the cells of a row; what would break a line is replaced.
func sqlTexts(row []any) []string {
	out := make([]string, len(row))
	for i, v := range row {
		if v != nil {
			out[i] = strings.Map(func(r rune) rune {
				if r < ' ' || r == 0x7f {
					return ' '
				}
				return r
			}, fmt.Sprint(v))
		}
	}
	return out
}
