package ovsdb

import (
	"encoding/json"
	"fmt"
)

// Schema says which tables and columns a database has (RFC 7047, section 3.2).
type Schema struct {
	Name    string                 `json:"name"`
	Version string                 `json:"version"`
	Tables  map[string]TableSchema `json:"tables"`
}

// TableSchema is one table.
type TableSchema struct {
	Columns map[string]ColumnSchema `json:"columns"`
	MaxRows int                     `json:"maxRows"` // 0 for no limit
	IsRoot  bool                    `json:"isRoot"`  // rows stay without a reference to them
}

// ColumnSchema is one column.
type ColumnSchema struct {
	Type      ColumnType `json:"type"`
	Ephemeral bool       `json:"ephemeral"`
	Mutable   *bool      `json:"mutable"` // nil for true
}

// ColumnType is the type of a column's values.
type ColumnType struct {
	Key, Value string // atomic types: integer, real, boolean, string, uuid; Value is "" unless it is a map
	RefTable   string // that a key of type uuid refers to
	Min, Max   int    // elements; Max is -1 for no limit
}

// Many reports whether a value may have more than one element. A change of such a column is told as a difference.
func (t ColumnType) Many() bool { return t.Max != 1 }

// UnmarshalJSON reads a <type>: the name of an atomic type, or an object.
func (t *ColumnType) UnmarshalJSON(b []byte) (err error) {
	*t = ColumnType{Min: 1, Max: 1}
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &t.Key)
	}
	var o struct {
		Key, Value json.RawMessage
		Min        *int
		Max        json.RawMessage
	}
	if err := json.Unmarshal(b, &o); err != nil {
		return err
	}
	if t.Key, t.RefTable, err = baseType(o.Key); err != nil {
		return err
	}
	if t.Value, _, err = baseType(o.Value); err != nil {
		return err
	}
	if o.Min != nil {
		t.Min = *o.Min
	}
	switch {
	case len(o.Max) == 0:
	case string(o.Max) == `"unlimited"`:
		t.Max = -1
	default:
		return json.Unmarshal(o.Max, &t.Max)
	}
	return nil
}

// baseType reads a <base-type>: the name of an atomic type, or an object with it.
func baseType(raw json.RawMessage) (name, ref string, err error) {
	if len(raw) == 0 {
		return "", "", nil
	}
	if raw[0] == '"' {
		err = json.Unmarshal(raw, &name)
		return name, "", err
	}
	var o struct{ Type, RefTable string }
	err = json.Unmarshal(raw, &o)
	return o.Type, o.RefTable, err
}

// check reports the first table or column that is not there.
func (s *Schema) check(tables []TableMonitor) error {
	for _, m := range tables {
		t, ok := s.Tables[m.Table]
		if !ok {
			return fmt.Errorf("ovsdb: database %s %s has no table %s", s.Name, s.Version, m.Table)
		}
		for _, c := range m.Columns {
			if _, ok := t.Columns[c]; !ok {
				return fmt.Errorf("ovsdb: table %s of database %s %s has no column %s", m.Table, s.Name, s.Version, c)
			}
		}
	}
	return nil
}
