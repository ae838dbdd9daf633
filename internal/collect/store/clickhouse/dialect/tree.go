package dialect

// query is WITH, the selects that UNION joins, ORDER BY and LIMIT.
type query struct {
	with    []*cte
	selects []*selection
	unions  []string // between them: "UNION ALL", "UNION DISTINCT"
	order   []ordered
	limit   expr
	offset  expr
}

// cte is a named step of a query.
type cte struct {
	name  string
	keep  bool // MATERIALIZED
	loose bool // neither that nor NOT MATERIALIZED
	query *query
	users []*cte // where it is named; nil stands for the query's own selects
	// what writing has made of it
	done  bool
	alias string // a name that no other has
	sql   string
	out   []column
	needs map[*cte]bool
	saved bool // is a table of its own
}

// selection is one SELECT, or a query in parentheses.
type selection struct {
	nested   *query
	distinct bool
	items    []item
	from     []source
	where    expr
	groupAll bool
	group    []expr
	having   expr
	qualify  expr
}

// item is a column of the answer: an expression, or a star with what it leaves out and puts in place.
type item struct {
	at      int
	star    bool
	table   string // of the star
	exclude map[string]bool
	replace map[string]expr
	expr    expr
	name    string // AS
}

// source is a table in FROM, with how it is joined to what stands before it.
type source struct {
	at    int
	table string // by name
	cte   *cte   // that the name means
	query *query
	alias string
	join  string // "", "CROSS", "INNER", "LEFT", "RIGHT", "FULL"
	on    expr
	using []string
}

type ordered struct {
	expr  expr
	desc  bool
	nulls string // "", "FIRST", "LAST"
}

type expr interface{}

type (
	numeral   struct{ text string }
	literal   struct{ text string }
	constant  struct{ text string } // NULL, true, false
	parameter struct{ at, n int }
	name      struct {
		at          int
		table, name string
	}
	call struct {
		at       int
		name     string
		args     []expr
		star     bool
		distinct bool
		order    []ordered
		filter   expr
		over     *window
	}
	window struct {
		by    []expr
		order []ordered
	}
	cast struct {
		at   int
		expr expr
		to   string
	}
	prefix struct {
		op   string
		expr expr
	}
	infix struct {
		at          int
		op          string
		left, right expr
	}
	between struct {
		expr, low, high expr
		not             bool
	}
	within struct { // IN
		expr  expr
		list  []expr
		query *query
		not   bool
	}
	isNull struct {
		expr expr
		not  bool
	}
	choice struct { // CASE
		of    expr
		whens [][2]expr
		other expr
	}
	tuple    struct{ items []expr }
	list     struct{ items []expr }
	subquery struct{ query *query }
	slice    struct {
		expr, from, to expr
		single         bool
	}
	lambda struct {
		of   string
		body expr
	}
)
