package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Serve answers agents on ln until ctx ends. A nil configuration is plain HTTP, for a proxy on the same host.
func (h *Hub) Serve(ctx context.Context, ln net.Listener, t *tls.Config) error {
	stop, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	srv := &http.Server{
		Handler: h.Handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(h.cfg.Log.Handler(), slog.LevelDebug), BaseContext: func(net.Listener) context.Context { return stop },
		TLSConfig: t,
	}
	failed := make(chan error, 1)
	go func() {
		if t == nil {
			failed <- srv.Serve(ln)
		} else {
			failed <- srv.ServeTLS(ln, "", "")
		}
	}()
	select {
	case err := <-failed:
		return fmt.Errorf("agents: %w", err)
	case <-ctx.Done():
	}
	cancel() // questions that wait
	grace, end := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer end()
	err := srv.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close()
	}
	<-failed
	return err
}
