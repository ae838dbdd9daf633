package output

import (
	"sync"
	"time"

	"crosstap/internal/ledger"
)

// Reasons for which a sink of this package or of package bus does not deliver a record.
const (
	DropFailed  = iota // the receiver or the disk refused it, or did not confirm it in time
	DropStopped        // the line ended before it left
	DropLarge          // longer than the receiver takes
)

// Account is the book and the state of a sink. Its methods are safe for concurrent use.
type Account struct {
	book *ledger.Book

	mu    sync.Mutex
	state State
}

// NewAccount returns an empty account.
func NewAccount() *Account {
	return &Account{book: ledger.New("sink", ledger.Records, "failed", "stopped", "too_large")}
}

// In counts records received, which are held until they are out or dropped.
func (a *Account) In(n int) { a.book.In(n); a.book.Hold(n) }

// Out counts records of one message that was delivered.
func (a *Account) Out(n, bytes int) {
	a.book.Hold(-n)
	a.book.Out(n)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state.Messages++
	a.state.Bytes += uint64(bytes)
	a.state.Connected = true
}

// Drop counts records that were not delivered; err says why and may be nil.
func (a *Account) Drop(reason, n int, err error) {
	a.book.Hold(-n)
	a.book.Drop(reason, n)
	a.Fail(err)
}

// Fail notes an error.
func (a *Account) Fail(err error) {
	if err == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state.Error, a.state.ErrorAt = err.Error(), time.Now()
}

// Retry counts a message that is sent again because of err.
func (a *Account) Retry(err error) {
	a.Fail(err)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state.Retries++
}

// Set changes the state.
func (a *Account) Set(f func(*State)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f(&a.state)
}

// Book implements Sink.
func (a *Account) Book() ledger.Statement { return a.book.Read() }

// State implements Sink.
func (a *Account) State() State {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state
}
