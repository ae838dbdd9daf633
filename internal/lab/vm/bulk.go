package vm

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
)

// maxBulk bounds what one copy may ask for.
const maxBulk = 1 << 30

// bulk serves copies: the client sends a number of bytes as a line of text and gets that many
// bytes and their SHA-256.
func (v *VM) bulk(ctx context.Context, g *errgroup.Group) error {
	l, err := listen(ctx, portBulk)
	if err != nil {
		return fmt.Errorf("lab bulk: %w", err)
	}
	serve(ctx, g, l, func(c net.Conn) error {
		line, err := bufio.NewReader(io.LimitReader(c, 32)).ReadString('\n')
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil || n < 0 || n > maxBulk {
			return fmt.Errorf("lab bulk: size %q", line)
		}
		v.stats.Served.Add(1)
		return sendBulk(c, n)
	})
	return nil
}

// sendBulk writes n bytes and their hash.
func sendBulk(w io.Writer, n int) error {
	block := make([]byte, 32<<10)
	for i := range block {
		block[i] = byte(i * 31 >> 3)
	}
	sum := sha256.New()
	for left := n; left > 0; {
		b := block[:min(left, len(block))]
		sum.Write(b)
		if _, err := w.Write(b); err != nil {
			return err
		}
		left -= len(b)
	}
	_, err := w.Write(sum.Sum(nil))
	return err
}

// fetch copies n bytes and checks them.
func fetch(ctx context.Context, from netip.Addr, n int) error {
	c, err := dial(ctx, from, portBulk)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	if _, err := fmt.Fprintf(c, "%d\n", n); err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.CopyN(sum, c, int64(n)); err != nil {
		return err
	}
	var want [sha256.Size]byte
	if _, err := io.ReadFull(c, want[:]); err != nil {
		return err
	}
	if [sha256.Size]byte(sum.Sum(nil)) != want {
		return errors.New("the copy differs from the original")
	}
	return nil
}
