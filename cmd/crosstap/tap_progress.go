package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/tap"
)

// progress says whether a tap shows how far it has read, and where its metrics are.
type progress struct {
	always, never bool
	metrics       string // address, "" for none
}

const (
	progressOnTerminal = 200 * time.Millisecond // a line that is written over
	progressAsLines    = 5 * time.Second
)

// start prints to w how far the tap has read its file until the function that it returns is called. On a terminal it
// begins after a second: most files are read by then.
func (p progress) start(w io.Writer, t *tap.Tap, file string) (stop func()) {
	terminal := isTerminal(w)
	if p.never || file == "" || !terminal && !p.always {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		showProgress(w, t, terminal, done)
	}()
	return func() { close(done); <-ended }
}

func showProgress(w io.Writer, t *tap.Tap, terminal bool, done <-chan struct{}) {
	every, begin, end := progressAsLines, "crosstap: tap: ", "\n"
	if terminal {
		every, begin, end = progressOnTerminal, "\r\x1b[K", ""
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	start, last, frames := time.Now(), time.Now(), uint64(0)
	shown := false
	for {
		select {
		case <-done:
			if shown && terminal {
				fmt.Fprint(w, "\r\x1b[K")
			}
			return
		case now := <-tick.C:
			if terminal && now.Sub(start) < time.Second {
				continue
			}
			n, read, size := t.Progress()
			rate := float64(n-frames) / max(now.Sub(last).Seconds(), 1e-3)
			frames, last, shown = n, now, true
			fmt.Fprint(w, begin, progressText(n, read, size, rate), end)
		}
	}
}

// progressText tells the share of a file that was read, and the frames of it in a second.
func progressText(frames uint64, read, size int64, rate float64) string {
	const mib = 1 << 20
	text := fmt.Sprintf("%.1f MiB", float64(read)/mib)
	if size > 0 {
		text = fmt.Sprintf("%3d%%  %.1f of %.1f MiB", min(100*read/size, 100), float64(read)/mib, float64(size)/mib)
	}
	return fmt.Sprintf("%s, %d frames, %.2f million/s", text, frames, rate/1e6)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
