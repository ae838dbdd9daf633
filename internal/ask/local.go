package ask

import (
	"errors"
	"io"
	"net/http"
	"sync"
)

// Local is a transport that answers with a handler of this process: "--data DIR" asks the same API
// that a server would serve, so the answer is the same bytes.
type Local struct{ Handler http.Handler }

// RoundTrip calls the handler and returns what it writes, as it writes it. The handler has ended when the body is closed, and when there is an error.
func (l Local) RoundTrip(req *http.Request) (*http.Response, error) {
	body, w := io.Pipe()
	rec := &recorder{header: http.Header{}, status: http.StatusOK, body: w, begun: make(chan struct{})}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = w.CloseWithError(rec.run(l.Handler, req)) // never fails
		rec.begin.Do(func() { close(rec.begun) })
	}()
	select {
	case <-rec.begun:
	case <-req.Context().Done():
		body.Close()
		<-ended
		return nil, req.Context().Err()
	}
	return &http.Response{
		Status: http.StatusText(rec.status), StatusCode: rec.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: rec.header, Body: localBody{body, ended}, ContentLength: -1, Request: req,
	}, nil
}

// localBody is what a handler writes. Who closes it waits for the handler.
type localBody struct {
	*io.PipeReader
	ended chan struct{}
}

func (b localBody) Close() error {
	err := b.PipeReader.Close()
	<-b.ended
	return err
}

// recorder passes on what a handler writes.
type recorder struct {
	header http.Header
	status int
	body   *io.PipeWriter
	begin  sync.Once
	begun  chan struct{}
}

// run calls the handler. One that gives up leaves the answer without its end.
func (r *recorder) run(h http.Handler, req *http.Request) (err error) {
	defer func() {
		switch why := recover(); why {
		case nil:
		case http.ErrAbortHandler:
			err = errBrokenOff
		default:
			panic(why)
		}
	}()
	h.ServeHTTP(r, req)
	return nil
}

var errBrokenOff = errors.New("the answer broke off")

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	r.begin.Do(func() {
		r.status = status
		close(r.begun)
	})
}

func (r *recorder) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(b)
}
