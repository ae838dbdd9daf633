package vm

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
)

// The database speaks a protocol of its own. Both ways a message is a length (32 bits, network
// order, without itself) and that many bytes. A query is a row's key as text; the answer is the row: the key,
// a zero byte and filler that follows from the key.
const maxMessage = 64 << 10

func writeMessage(w io.Writer, body []byte) error {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	_, err := w.Write(append(b, body...))
	return err
}

func readMessage(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxMessage {
		return nil, fmt.Errorf("lab db: message of %d bytes: at most %d", n, maxMessage)
	}
	body := make([]byte, n)
	_, err := io.ReadFull(r, body)
	return body, err
}

// row returns the stored row of a key.
func row(key string) []byte {
	size := 200
	for i := range len(key) {
		size += int(key[i]) * 7 % 97
	}
	b := append([]byte(key), 0)
	for i := range size {
		b = append(b, 'a'+byte(i%26))
	}
	return b
}

// database serves queries.
func (v *VM) database(ctx context.Context, g *errgroup.Group) error {
	l, err := listen(ctx, portDB)
	if err != nil {
		return fmt.Errorf("lab db: %w", err)
	}
	serve(ctx, g, l, func(c net.Conn) error {
		r := bufio.NewReader(c)
		for {
			key, err := readMessage(r)
			if err != nil {
				return err
			}
			if err := writeMessage(c, row(string(key))); err != nil {
				return err
			}
			v.stats.Served.Add(1)
		}
	})
	return nil
}

// A dbConn is a connection to the database, opened at the first query and again after a failure. One goroutine at
// a time.
type dbConn struct {
	to   netip.Addr
	conn net.Conn
	r    *bufio.Reader
}

// query returns the row of a key.
func (d *dbConn) query(ctx context.Context, key string) (_ []byte, err error) {
	if d.conn == nil {
		if d.conn, err = dial(ctx, d.to, portDB); err != nil {
			return nil, err
		}
		d.r = bufio.NewReader(d.conn)
	}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	stop := context.AfterFunc(ctx, func() { d.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := d.conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return nil, err
	}
	if err := writeMessage(d.conn, []byte(key)); err != nil {
		return nil, err
	}
	b, err := readMessage(d.r)
	if err == nil && string(b) != string(row(key)) {
		err = errors.New("lab db: the answer is not the row that was asked for")
	}
	return b, err
}

func (d *dbConn) close() {
	if d.conn != nil {
		d.conn.Close()
		d.conn = nil
	}
}
