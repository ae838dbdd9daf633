package report

import (
	"context"
	"errors"
)

// Series implements Reporter.
func (r *Reports) Series(ctx context.Context, q Query) (Series, error) {
	return Series{}, errors.New("report: series: not built yet")
}
