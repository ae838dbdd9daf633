package segment

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"time"

	"crosstap/internal/collect/store"
)

// The process of a question tells its answer in pieces: a byte that says what it is, four with its length, the least significant first, and what it holds.
const (
	pieceColumns = 'c' // JSON
	pieceRows    = 'r' // values, row by row
	pieceEnd     = 'e' // 1 when there were more rows
	pieceMistake = 'm' // text for who asked
	pieceFailure = 'f' // text of another error
)

const (
	rowsAtOnce = 64 << 10 // bytes of a piece with rows
	rowMost    = 16 << 20 // bytes of a row: what the reader must hold
)

// cutError says that the answer's end is missing.
type cutError struct{ error }

// pieceWriter tells the answer.
type pieceWriter struct {
	to  *bufio.Writer
	buf []byte // rows that wait
}

func (w *pieceWriter) piece(kind byte, b []byte) error {
	head := binary.LittleEndian.AppendUint32([]byte{kind}, uint32(len(b)))
	if _, err := w.to.Write(head); err != nil {
		return err
	}
	_, err := w.to.Write(b)
	return err
}

func (w *pieceWriter) columns(columns []store.SQLColumn) error {
	b, err := json.Marshal(columns)
	if err != nil {
		return err
	}
	return w.piece(pieceColumns, b)
}

// row adds a row and returns its bytes.
func (w *pieceWriter) row(values []any) (int, error) {
	before := len(w.buf)
	for _, v := range values {
		w.buf = appendValue(w.buf, v)
	}
	n := len(w.buf) - before
	if n > rowMost {
		return n, &store.SQLError{Message: fmt.Sprintf("a row of the answer has more than %d MiB; ask for less of it, such as left(x, 1000)", rowMost>>20)}
	}
	if len(w.buf) < rowsAtOnce {
		return n, nil
	}
	return n, w.flush()
}

func (w *pieceWriter) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	err := w.piece(pieceRows, w.buf)
	w.buf = w.buf[:0]
	return err
}

// end tells the rest and how the question ended.
func (w *pieceWriter) end(truncated bool, err error) error {
	var mistake *store.SQLError
	switch {
	case errors.As(err, &mistake):
		err = w.piece(pieceMistake, []byte(mistake.Message))
	case err != nil:
		err = w.piece(pieceFailure, []byte(err.Error()))
	default:
		more := []byte{0}
		if truncated {
			more[0] = 1
		}
		err = errors.Join(w.flush(), w.piece(pieceEnd, more))
	}
	return errors.Join(err, w.to.Flush())
}

// readAnswer reads an answer to its end.
func readAnswer(r *bufio.Reader, to store.SQLRows) (truncated bool, err error) {
	var head [5]byte
	var buf []byte
	var columns []store.SQLColumn
	var values []any
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return false, &cutError{err}
		}
		n := int(binary.LittleEndian.Uint32(head[1:]))
		if n > rowMost+rowsAtOnce {
			return false, &cutError{fmt.Errorf("a piece of %d bytes", n)}
		}
		if cap(buf) < n || cap(buf) > 1<<20 && n < 1<<18 { // a great row is rare
			buf = make([]byte, max(n, rowsAtOnce))
		}
		b := buf[:n]
		if _, err := io.ReadFull(r, b); err != nil {
			return false, &cutError{err}
		}
		switch head[0] {
		case pieceColumns:
			if err := json.Unmarshal(b, &columns); err != nil {
				return false, &cutError{err}
			}
			values = make([]any, len(columns))
			if err := to.Columns(columns); err != nil {
				return false, err
			}
		case pieceRows:
			if err := eachRow(b, values, to); err != nil {
				return false, err
			}
		case pieceEnd:
			return n == 1 && b[0] == 1, nil
		case pieceMistake:
			return false, &store.SQLError{Message: string(b)}
		case pieceFailure:
			return false, fmt.Errorf("segment: sql: %s", b)
		default:
			return false, &cutError{fmt.Errorf("a piece of kind %q", head[0])}
		}
	}
}

func eachRow(b []byte, values []any, to store.SQLRows) error {
	if len(values) == 0 && len(b) > 0 {
		return &cutError{errors.New("rows without columns")}
	}
	for len(b) > 0 {
		for i := range values {
			var ok bool
			if values[i], b, ok = takeValue(b); !ok {
				return &cutError{errors.New("a row that breaks off")}
			}
		}
		if err := to.Row(values); err != nil {
			return err
		}
	}
	return nil
}

// Kinds of values.
const (
	valueNil = iota
	valueFalse
	valueTrue
	valueInt
	valueUint
	valueFloat
	valueText
	valueBytes
	valueTime
	valueBig // an integer of any size: sign, then its bytes
)

func appendValue(b []byte, v any) []byte {
	blob := func(kind byte, v []byte) []byte {
		return append(binary.AppendUvarint(append(b, kind), uint64(len(v))), v...)
	}
	switch v := v.(type) {
	case nil:
		return append(b, valueNil)
	case bool:
		if v {
			return append(b, valueTrue)
		}
		return append(b, valueFalse)
	case int8:
		return appendValue(b, int64(v))
	case int16:
		return appendValue(b, int64(v))
	case int32:
		return appendValue(b, int64(v))
	case int:
		return appendValue(b, int64(v))
	case int64:
		return binary.AppendVarint(append(b, valueInt), v)
	case uint8:
		return appendValue(b, uint64(v))
	case uint16:
		return appendValue(b, uint64(v))
	case uint32:
		return appendValue(b, uint64(v))
	case uint64:
		return binary.AppendUvarint(append(b, valueUint), v)
	case float32:
		return appendValue(b, float64(v))
	case float64:
		return binary.LittleEndian.AppendUint64(append(b, valueFloat), math.Float64bits(v))
	case string:
		return append(binary.AppendUvarint(append(b, valueText), uint64(len(v))), v...)
	case []byte:
		return blob(valueBytes, v)
	case time.Time:
		return binary.AppendUvarint(binary.AppendVarint(append(b, valueTime), v.Unix()), uint64(v.Nanosecond()))
	case *big.Int:
		return blob(valueBig, append([]byte{byte(v.Sign() + 1)}, v.Bytes()...))
	}
	return appendValue(b, fmt.Sprint(v))
}

// takeValue takes the first value off. Bytes are those of b, for as long as that is not written over.
func takeValue(b []byte) (v any, rest []byte, ok bool) {
	if len(b) == 0 {
		return nil, nil, false
	}
	kind, b := b[0], b[1:]
	switch kind {
	case valueNil:
		return nil, b, true
	case valueFalse, valueTrue:
		return kind == valueTrue, b, true
	case valueInt:
		x, n := binary.Varint(b)
		return x, b[max(n, 0):], n > 0
	case valueFloat:
		if len(b) < 8 {
			return nil, nil, false
		}
		return math.Float64frombits(binary.LittleEndian.Uint64(b)), b[8:], true
	case valueTime:
		sec, n := binary.Varint(b)
		b = b[max(n, 0):]
		nsec, m := binary.Uvarint(b)
		return time.Unix(sec, int64(nsec&(1<<30-1))).UTC(), b[max(m, 0):], n > 0 && m > 0
	}
	x, n := binary.Uvarint(b)
	if n <= 0 {
		return nil, nil, false
	}
	b = b[n:]
	if kind == valueUint {
		return x, b, true
	}
	if x > uint64(len(b)) {
		return nil, nil, false
	}
	part, rest := b[:x:x], b[x:]
	switch {
	case kind == valueText:
		return string(part), rest, true
	case kind == valueBytes:
		return part, rest, true
	case kind == valueBig && x > 0 && part[0] <= 2:
		i := new(big.Int).SetBytes(part[1:])
		if part[0] == 0 {
			i.Neg(i)
		}
		return i, rest, true
	}
	return nil, nil, false
}
