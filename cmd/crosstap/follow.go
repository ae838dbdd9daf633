//go:build !agent

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"reflect"
	"strconv"
	"time"

	"crosstap/internal/answer"
	"crosstap/internal/ask"
	"crosstap/internal/collect/report"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// pollEvery is the pause between two looks at a store directory, and before a lost server is tried again.
const pollEvery = 2 * time.Second

// followWith shows the answer again whenever there is news: redrawn on a terminal, changed rows otherwise.
func (in *inquiry) followWith(cmd *cobra.Command, c *ask.Client, q url.Values) error {
	out, ctx := cmd.OutOrStdout(), cmd.Context()
	f := &follower{in: in, w: out, errw: cmd.ErrOrStderr(), seen: map[string]mark{}}
	if _, isFlows := in.doc().(*report.Flows); isFlows {
		f.tail(cmd, q)
	}
	f.screen = (in.output == "table" || in.output == "wide") && terminal(out)
	show := func() error {
		body, doc, err := in.answer(ctx, c, q)
		if err != nil {
			return err
		}
		return f.show(body, doc)
	}
	if err := show(); err != nil {
		return err
	}
	err := in.news(ctx, c, f.errw, show)
	if ctx.Err() != nil {
		return exit(exitSignal, f.farewell())
	}
	return err
}

// news calls show at each tick of the server, or every two seconds for a store directory. A server that goes away
// is tried again until ctx ends.
func (in *inquiry) news(ctx context.Context, c *ask.Client, errw io.Writer, show func() error) error {
	told := false
	for {
		var err error
		if in.data != "" {
			err = show()
		} else {
			err = c.Events(ctx, func([]byte) error { told = false; return show() })
		}
		var away *ask.Unreachable
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &away):
			if !told {
				fmt.Fprintln(errw, "crosstap:", away.Error())
				fmt.Fprintln(errw, "crosstap: trying again until it answers; Ctrl-C ends")
			}
			told = true
		case err != nil:
			return coded(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollEvery):
		}
	}
}

// Following flow records works as tail -f does: the last few, then what comes. Records may come late by the
// exporter's active timeout, so the range looked at is longer.
const (
	tailRows  = 10
	tailRange = "now-5m"
	tailLimit = 10_000
)

// tail chooses range and limit where nobody did.
func (f *follower) tail(cmd *cobra.Command, q url.Values) {
	if !cmd.Flags().Changed("limit") {
		q.Set("limit", strconv.Itoa(tailLimit))
	}
	if !cmd.Flags().Changed("since") {
		q.Set("from", tailRange)
		f.first = tailRows
	}
}

// follower remembers what was shown.
type follower struct {
	in      *inquiry
	w, errw io.Writer
	screen  bool
	begun   bool
	first   int             // rows to begin with, 0 for all
	last    any             // the newest answer
	rows    int             // in it
	seen    map[string]mark // by the identity of a row; rows that left the answer are forgotten
}

// mark is what tells a changed row from one already shown.
type mark struct {
	last   time.Time
	octets uint64
}

func (f *follower) show(body []byte, doc any) error {
	f.last, f.rows = doc, answer.RowCount(doc)
	if f.screen {
		return f.redraw(body, doc)
	}
	if err := f.keepChanged(doc); err != nil {
		return err
	}
	if answer.RowCount(doc) == 0 && f.begun {
		return nil
	}
	if f.in.output == "yaml" {
		fmt.Fprintln(f.w, "---")
	}
	if f.begun {
		f.in.noHeaders = true
	}
	f.begun = true
	return f.in.print(f.w, body, doc)
}

// farewell writes what the newest answer stood for, unless the screen shows it.
func (f *follower) farewell() error {
	m := answer.MetaOf(f.last)
	if f.screen || m == nil {
		return nil
	}
	_, err := io.WriteString(f.errw, answer.Footer(m, f.in.one, f.rows, f.in.options()))
	return err
}

// redraw writes the table and its footer over the last one, as many rows as the terminal has. Long lines are cut by
// the terminal (autowrap off) instead of taking two.
func (f *follower) redraw(body []byte, doc any) error {
	rows := rowsField(doc)
	total := rows.Len()
	if fit := terminalHeight(f.w) - 4; fit > 0 && total > fit && f.in.limit == 0 {
		rows.Set(rows.Slice(0, fit))
	}
	var b bytes.Buffer // written at once, so that the screen does not flicker
	b.WriteString("\x1b[?7l\x1b[H\x1b[2J")
	if err := f.in.print(&b, body, doc); err != nil {
		return err
	}
	b.WriteString(answer.Footer(answer.MetaOf(doc), f.in.one, rows.Len(), f.in.options()))
	b.WriteString("\x1b[?7h")
	_, err := b.WriteTo(f.w)
	return err
}

// keepChanged removes the rows that were shown as they are. Flow records come newest first and are turned round, so that
// the newest stands last.
func (f *follower) keepChanged(doc any) error {
	rows := rowsField(doc)
	next := make(map[string]mark, rows.Len())
	var changed []reflect.Value
	for i := range rows.Len() {
		row := rows.Index(i)
		key, now, err := identify(row.Interface())
		if err != nil {
			return err
		}
		next[key] = now
		if before, ok := f.seen[key]; !ok || !before.last.Equal(now.last) || now.octets > before.octets {
			changed = append(changed, row)
		}
	}
	f.seen = next
	if !f.begun && f.first > 0 {
		changed = changed[:min(len(changed), f.first)]
	}
	kept := reflect.MakeSlice(rows.Type(), 0, len(changed))
	for i := range changed {
		if _, isFlows := doc.(*report.Flows); isFlows {
			kept = reflect.Append(kept, changed[len(changed)-1-i])
		} else {
			kept = reflect.Append(kept, changed[i])
		}
	}
	rows.Set(kept)
	return nil
}

// identify gives what stays the same of a row while it is updated, and what changes.
func identify(row any) (string, mark, error) {
	var id any = row
	var m mark
	switch r := row.(type) {
	case report.Pair:
		id, m = r.Ends, mark{r.LastSeen, r.Octets}
	case report.Conversation:
		id, m = []any{r.Ends, r.Proto, r.SrcPort, r.DstPort}, mark{r.LastSeen, r.Octets}
	}
	b, err := json.Marshal(id)
	return string(b), m, err
}

// rowsField returns the settable slice of rows of a document.
func rowsField(doc any) reflect.Value { return reflect.ValueOf(doc).Elem().FieldByName("Rows") }

func terminal(w io.Writer) bool { return terminalHeight(w) > 0 }

// terminalHeight returns the number of lines, 0 when w is no terminal.
func terminalHeight(w io.Writer) int {
	lines, _ := terminalSize(w)
	return lines
}

// terminalSize returns the number of lines and the characters of each, 0 when w is no terminal.
func terminalSize(w io.Writer) (lines, width int) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return int(size.Row), int(size.Col)
}
