package ask

import (
	"bufio"
	"context"
	"errors"
	"strings"
)

// maxEventLine bounds one line of a stream of events.
const maxEventLine = 1 << 16

// errEnded is the cause when the server closes a stream.
var errEnded = errors.New("the stream ended")

// Events calls tick for each "tick" event of the server's stream, with its data, until ctx ends, the stream breaks or
// tick fails. It returns nil only when ctx ended.
func (c *Client) Events(ctx context.Context, tick func(data []byte) error) error {
	res, err := c.open(ctx, "api/v1/events", nil, "text/event-stream")
	if err != nil {
		return quiet(ctx, err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxEventLine)
	name, data := "", ""
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case lines.Text() == "":
			if name == "tick" {
				if err := tick([]byte(data)); err != nil {
					return quiet(ctx, err)
				}
			}
			name, data = "", ""
		case field == "event":
			name = value
		case field == "data":
			data += value
		}
	}
	if err := lines.Err(); err != nil {
		return quiet(ctx, &Unreachable{c.Server(), err})
	}
	return quiet(ctx, &Unreachable{c.Server(), errEnded})
}

// quiet hides errors that only say that ctx ended.
func quiet(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
