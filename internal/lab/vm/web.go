package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// web serves pages made from two database rows: over a lasting IPv4 connection, and over an
// IPv6 connection per page where there is IPv6.
func (v *VM) web(ctx context.Context, g *errgroup.Group) error {
	l, err := listen(ctx, portHTTP)
	if err != nil {
		return fmt.Errorf("lab web: %w", err)
	}
	var mu sync.Mutex // guards lasting
	lasting := dbConn{to: v.cfg.DB.Addr4}
	ask := func(ctx context.Context, key string) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		return lasting.query(ctx, key)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /items/{id}", func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		page, err := ask(ctx, "item "+id)
		v.stats.count(ctx, "database query", err)
		if err == nil && v.cfg.DB.Addr6.IsValid() {
			once := dbConn{to: v.cfg.DB.Addr6}
			var more []byte
			more, err = once.query(ctx, "stock "+id)
			once.close()
			v.stats.count(ctx, "database query over IPv6", err)
			page = append(page, more...)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write(page) // the client went away: its own report says so
		v.stats.Served.Add(1)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	g.Go(func() error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("lab web: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if err := server.Shutdown(end); err != nil {
			server.Close()
		}
		mu.Lock()
		defer mu.Unlock()
		lasting.close()
		return nil
	})
	return nil
}

// dialHTTP opens a connection as dial does.
func dialHTTP(ctx context.Context, _, hostport string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(hostport)
	if err != nil {
		return nil, err
	}
	return dial(ctx, to.Addr(), to.Port())
}

// get fetches one page and checks that it is the right one.
func get(ctx context.Context, client *http.Client, from netip.Addr, id int) error {
	url := fmt.Sprintf("http://%s/items/%d", netip.AddrPortFrom(from, portHTTP), id)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxMessage))
	if err != nil {
		return err
	}
	want := string(row(fmt.Sprintf("item %d", id)))
	if answer.StatusCode != http.StatusOK || len(body) < len(want) || string(body[:len(want)]) != want {
		return fmt.Errorf("%s: status %d, %d bytes", url, answer.StatusCode, len(body))
	}
	return nil
}
