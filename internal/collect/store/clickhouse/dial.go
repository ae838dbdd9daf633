package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/ch-go"
)

const (
	dialTimeout = 5 * time.Second
	packetWait  = 10 * time.Minute // between two packets of one answer; questions end by their context
)

// dialer opens connections to the servers in turn.
type dialer struct {
	cfg  Config
	next atomic.Uint32
}

// dial connects to the first server that answers. database is "" before ours is made.
func (d *dialer) dial(ctx context.Context, database string) (*ch.Client, error) {
	first := int(d.next.Add(1))
	var errs []error
	for i := range d.cfg.Addrs {
		addr := d.cfg.Addrs[(first+i)%len(d.cfg.Addrs)]
		c, err := d.dialTo(ctx, addr, database)
		if err == nil {
			return c, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", addr, err))
	}
	return nil, errors.Join(errs...)
}

// Unreached reports whether an error is of the way to a server: nobody listens, or the connection ends, as when the server is starting or has too much to
// do. What a server says is another matter.
func Unreached(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) || errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

func (d *dialer) dialTo(ctx context.Context, addr, database string) (*ch.Client, error) {
	return ch.Dial(ctx, ch.Options{
		Address: addr, Database: database, User: d.cfg.User, Password: d.cfg.Password, TLS: d.cfg.TLS, Compression: ch.CompressionLZ4,
		ClientName: "crosstap", DialTimeout: dialTimeout, HandshakeTimeout: dialTimeout, ReadTimeout: packetWait,
	})
}

// everywhere runs a statement that changes tables: ON CLUSTER does the rest, or it is run on each server.
func (d *dialer) everywhere(ctx context.Context, body string, settings ...ch.Setting) error {
	servers := d.cfg.Addrs
	run := func(c *ch.Client, err error) error {
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.Do(ctx, ch.Query{Body: body, Settings: append(ddlSettings[:len(ddlSettings):len(ddlSettings)], settings...)}); err != nil {
			return fmt.Errorf("%.80s…: %w", body, plainError(err))
		}
		return nil
	}
	if !d.cfg.EachServer {
		return run(d.dial(ctx, ""))
	}
	for _, addr := range servers {
		if err := run(d.dialTo(ctx, addr, "")); err != nil {
			return fmt.Errorf("%s: %w", addr, err)
		}
	}
	return nil
}
