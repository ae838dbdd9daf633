package export

import (
	"slices"
	"sync"
)

// turns are the lines of this process that have a spool or wait for it, by folder. Of lines that follow each other the one that came first
// gets it first, so that none ends without having had it.
var turns turnsOf

type turnsOf struct {
	mu sync.Mutex
	of map[string][]*stream
}

func (t *turnsOf) join(w *stream) {
	if w.dir == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[string][]*stream{}
	}
	t.of[w.dir] = append(t.of[w.dir], w)
}

// mine reports whether it is the turn of w.
func (t *turnsOf) mine(w *stream) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	line := t.of[w.dir]
	return len(line) == 0 || line[0] == w
}

func (t *turnsOf) leave(w *stream) {
	if w.dir == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of[w.dir] = slices.DeleteFunc(t.of[w.dir], func(x *stream) bool { return x == w }); len(t.of[w.dir]) == 0 {
		delete(t.of, w.dir)
	}
}
