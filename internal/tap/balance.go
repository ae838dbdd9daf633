package tap

import "time"

// tool is a destination of frames that knows whether somebody is there to take them. It is asked by any goroutine.
type tool interface{ Up() bool }

// lookAtTools is how often a tap that balances looks which of its tools are there.
const lookAtTools = 50 * time.Millisecond

// followTools keeps conversations away from tools that are not there until done is closed. They return with their tool.
func (t *Tap) followTools(done <-chan struct{}) {
	tick := time.NewTicker(lookAtTools)
	defer tick.Stop()
	gone := make([]bool, len(t.frames))
	for {
		select {
		case <-tick.C:
		case <-done:
			return
		}
		for i, f := range t.frames {
			if now := !isUp(f); now != gone[i] {
				gone[i] = now
				t.groom.SetOutput(i, !now)
				t.tellTool(f.Where(), now)
			}
		}
	}
}

// isUp reports whether a destination is there. What cannot tell is.
func isUp(f frameSink) bool {
	if b, ok := f.(*branch); ok {
		f = b.frameSink
	}
	x, ok := f.(tool)
	return !ok || x.Up()
}

func (t *Tap) tellTool(to string, gone bool) {
	switch {
	case t.spec.Log == nil:
	case gone:
		t.spec.Log.Warn("a tool is not there: its conversations go to the others", "to", to)
	default:
		t.spec.Log.Info("a tool is back, and its conversations with it", "to", to)
	}
}
