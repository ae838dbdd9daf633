package answer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/goccy/go-yaml"
)

// YAML writes the JSON document as YAML: the same keys in the same order, integers exact.
func YAML(w io.Writer, document []byte) error {
	dec := json.NewDecoder(bytes.NewReader(document))
	dec.UseNumber()
	v, err := ordered(dec)
	if err != nil {
		return fmt.Errorf("yaml: %w", err)
	}
	return yaml.NewEncoder(w, yaml.IndentSequence(true)).Encode(v)
}

// ordered reads the next JSON value, objects as yaml.MapSlice so that their keys keep their order.
func ordered(dec *json.Decoder) (any, error) {
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t := tok.(type) {
	case json.Delim:
		if t == '{' {
			return object(dec)
		}
		return array(dec)
	case json.Number:
		return number(t)
	}
	return tok, nil
}

func object(dec *json.Decoder) (any, error) {
	out := yaml.MapSlice{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		v, err := ordered(dec)
		if err != nil {
			return nil, err
		}
		out = append(out, yaml.MapItem{Key: key, Value: v})
	}
	_, err := dec.Token()
	return out, err
}

func array(dec *json.Decoder) (any, error) {
	out := []any{}
	for dec.More() {
		v, err := ordered(dec)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	_, err := dec.Token()
	return out, err
}

// number keeps integers integers: uint64 where it fits, else int64, else float64.
func number(n json.Number) (any, error) {
	var u uint64
	if err := json.Unmarshal([]byte(n), &u); err == nil {
		return u, nil
	}
	if i, err := n.Int64(); err == nil {
		return i, nil
	}
	f, err := n.Float64()
	if err == nil && math.IsInf(f, 0) {
		err = errors.New("number out of range")
	}
	return f, err
}
