package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"crosstap/internal/collect/report"
	"crosstap/internal/nearest"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
)

// Problem is an answer that says why there is none (RFC 9457).
type Problem struct {
	Title    string   `json:"title" doc:"The HTTP status in words"`
	Status   int      `json:"status" doc:"HTTP status code"`
	Detail   string   `json:"detail,omitempty" doc:"What went wrong here, and the way out"`
	Instance string   `json:"instance,omitempty" doc:"Number of this failure, as in the server's log"`
	Errors   []*Fault `json:"errors,omitempty" doc:"Each mistake in the question"`

	header http.Header
}

// Fault is one mistake in a question and where it is.
type Fault struct {
	Message    string `json:"message"`
	Location   string `json:"location,omitempty" doc:"Where the mistake is, such as query.f"`
	Value      any    `json:"value,omitempty" doc:"What stands there"`
	Pos        *int   `json:"pos,omitempty" doc:"Filter expressions: offset of the mistake, in bytes"`
	Len        *int   `json:"len,omitempty" doc:"Filter expressions: length of the mistake, in bytes"`
	Suggestion string `json:"suggestion,omitempty" doc:"What was probably meant"`
}

// Error returns the message.
func (f *Fault) Error() string { return f.Message }

// Error returns the detail.
func (p *Problem) Error() string { return p.Detail }

// GetStatus returns the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders returns further header fields of the response.
func (p *Problem) GetHeaders() http.Header { return p.header }

// ContentType is the media type of RFC 9457, whatever was asked for.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// mistaken is the detail of every question that cannot be answered as it stands.
const mistaken = "the question has a mistake"

// init makes huma speak in Problems: its constructor of errors is a package variable.
func init() {
	huma.NewError = func(status int, detail string, errs ...error) huma.StatusError {
		if detail == "validation failed" { // huma's words for it
			detail = mistaken
		}
		p := &Problem{Title: http.StatusText(status), Status: status, Detail: detail}
		for _, err := range errs {
			if err != nil {
				p.Errors = append(p.Errors, faultOf(err))
			}
		}
		return p
	}
}

// unknownParameter is huma's message about a parameter that no operation of that path has.
const unknownParameter = "unknown query parameter"

// parameters of all operations.
var parameters = []string{"from", "to", "f", "sort", "limit", "by", "step", "metric", "format", "pos", "per", "period", "having", "resolution", "previous", "mtu", "name", "expand", "focus", "hops",
	"base_from", "base_to", "inner", "link", "live"}

// tooMany begins what Huma says of a list that is too long; the most that it may have follows.
const tooMany = "expected array length <= "

func faultOf(err error) *Fault {
	var f *Fault
	if errors.As(err, &f) {
		return f
	}
	var d huma.ErrorDetailer
	if errors.As(err, &d) {
		e := d.ErrorDetail()
		if name, ok := strings.CutPrefix(e.Location, "query."); ok && e.Message == unknownParameter {
			if slices.Contains(parameters, name) {
				return &Fault{Message: "this question has no such parameter", Location: e.Location}
			}
			return &Fault{Message: e.Message, Location: e.Location, Suggestion: nearest.Of(name, parameters)}
		}
		if most, ok := strings.CutPrefix(e.Message, tooMany); ok {
			return &Fault{Message: "at most " + most + " can be named", Location: e.Location, Value: e.Value}
		}
		return &Fault{Message: e.Message, Location: e.Location, Value: e.Value}
	}
	return &Fault{Message: err.Error()}
}

// wrong returns the problem of a question with mistakes.
func wrong(faults ...*Fault) *Problem {
	return &Problem{
		Title: http.StatusText(http.StatusUnprocessableEntity), Status: http.StatusUnprocessableEntity,
		Detail: mistaken, Errors: faults,
	}
}

// failed turns an error of the reporter into a problem.
func (a *API) failed(ctx context.Context, err error, filter string) *Problem {
	var fe *report.FilterError
	var qe *report.QueryError
	switch {
	case errors.As(err, &fe):
		return wrong(filterFault(fe, filter))
	case errors.As(err, &qe):
		return wrong(&Fault{Message: qe.Message, Location: "query." + parameter(qe.Field), Suggestion: qe.Suggestion})
	case errors.Is(err, errBusy):
		p := problem(http.StatusServiceUnavailable, "too many questions at once; ask again in a second")
		p.header = http.Header{"Retry-After": {"1"}}
		return p
	case errors.Is(err, context.DeadlineExceeded):
		return problem(http.StatusGatewayTimeout, fmt.Sprintf("the query took more than %v; choose a shorter range or a narrower filter", a.cfg.QueryTimeout))
	case errors.Is(ctx.Err(), context.Canceled):
		return problem(http.StatusServiceUnavailable, "the request was cancelled")
	}
	return a.broken(err.Error(), "err", err)
}

// broken is the problem of a failure of ours: the log says more under the same number.
func (a *API) broken(detail string, log ...any) *Problem {
	p := problem(http.StatusInternalServerError, detail)
	p.Instance = uuid.New().URN()
	a.cfg.Log.Error("request failed", append(log, "instance", p.Instance)...)
	return p
}

// parameter names the parameter behind a field of a report.Query.
func parameter(field string) string {
	switch field {
	case "since":
		return "from"
	case "until":
		return "to"
	case "filter":
		return "f"
	case "base":
		return "base_from"
	}
	return field
}

func filterFault(e *report.FilterError, expr string) *Fault {
	return &Fault{Message: e.Message, Location: "query.f", Value: expr, Pos: &e.Pos, Len: &e.Len, Suggestion: e.Suggestion}
}

func problem(status int, detail string) *Problem {
	return &Problem{Title: http.StatusText(status), Status: status, Detail: detail}
}

// write sends the problem outside of huma's operations.
func (p *Problem) write(w http.ResponseWriter) {
	for k, v := range p.header {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client is gone: nobody to tell
}

func unknownPath(w http.ResponseWriter, r *http.Request) {
	problem(http.StatusNotFound, "no such path: "+strings.ToValidUTF8(r.URL.Path, "?")+"; openapi.json lists them").write(w)
}
