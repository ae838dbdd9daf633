package ovsdb

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Change is what happened to one row: Old is nil for a row that is new, New for one that is gone. Rows are never changed once
// they are told: keep them, but do not write to them.
type Change struct {
	Table    string
	UUID     UUID
	Old, New Row
}

// tables is the copy of a database: rows by table and UUID.
type tables map[string]map[UUID]Row

// rowUpdate is a <row-update> (RFC 7047, section 4.1.6) or a <row-update2> (ovsdb-server(7)).
type rowUpdate struct {
	Old, New                Row // of update
	Initial, Insert, Modify Row
	Delete                  json.RawMessage // null
	deleted                 bool
}

// UnmarshalJSON tells "delete": null from no delete.
func (u *rowUpdate) UnmarshalJSON(b []byte) error {
	type plain rowUpdate
	if err := json.Unmarshal(b, (*plain)(u)); err != nil {
		return err
	}
	u.deleted = len(u.Delete) > 0
	return nil
}

// tableUpdates are the <table-updates> or <table-updates2> of a notification.
type tableUpdates map[string]map[UUID]rowUpdate

// apply brings t to the state after the updates, and returns what changed in a steady order.
func (t tables) apply(s *Schema, updates tableUpdates) (changes []Change, err error) {
	for _, table := range slices.Sorted(maps.Keys(updates)) {
		rows := t[table]
		if rows == nil {
			rows = map[UUID]Row{}
			t[table] = rows
		}
		for _, id := range slices.Sorted(maps.Keys(updates[table])) {
			u, old := updates[table][id], rows[id]
			now, err := u.row(s.Tables[table], old)
			if err != nil {
				return changes, fmt.Errorf("ovsdb: table %s, row %s: %w", table, id, err)
			}
			if now == nil {
				delete(rows, id)
			} else {
				rows[id] = now
			}
			if old == nil && now == nil || old != nil && now != nil && old.Equal(now) {
				continue
			}
			changes = append(changes, Change{Table: table, UUID: id, Old: old, New: now})
		}
	}
	return changes, nil
}

// row returns the row after an update of old; nil when it is gone.
func (u *rowUpdate) row(t TableSchema, old Row) (Row, error) {
	switch {
	case u.Initial != nil:
		return u.Initial, nil
	case u.Insert != nil:
		return u.Insert, nil
	case u.Modify != nil:
		if old == nil {
			return nil, fmt.Errorf("a change of a row that is not there")
		}
		now := maps.Clone(old)
		for column, d := range u.Modify {
			now[column] = changed(t.Columns[column].Type, old[column], d)
		}
		return now, nil
	case u.New != nil:
		return u.New, nil
	case u.deleted || u.Old != nil:
		return nil, nil
	}
	return nil, fmt.Errorf("an update that says nothing")
}

// changed applies the difference d to a value: of one element it is the new value, of a set the elements that are in one of both,
// of a map the pairs that are in one of both.
func changed(t ColumnType, old, d any) any {
	switch {
	case !t.Many():
		return d
	case t.Value != "":
		return changedMap(old, d)
	}
	now := make(Set, 0, len(elements(old))+len(elements(d)))
	for _, e := range elements(old) {
		if !slices.Contains(elements(d), e) {
			now = append(now, e)
		}
	}
	for _, e := range elements(d) {
		if !slices.Contains(elements(old), e) {
			now = append(now, e)
		}
	}
	return now
}

func changedMap(old, d any) Map {
	before, _ := old.(Map)
	now := maps.Clone(before)
	if now == nil {
		now = Map{}
	}
	difference, _ := d.(Map)
	for k, v := range difference {
		if was, ok := before[k]; ok && was == v {
			delete(now, k)
		} else {
			now[k] = v
		}
	}
	return now
}

// differences returns what changed from one copy to another.
func differences(before, after tables) (changes []Change) {
	names := maps.Clone(before)
	maps.Copy(names, after)
	for _, table := range slices.Sorted(maps.Keys(names)) {
		ids := maps.Clone(before[table])
		if ids == nil {
			ids = map[UUID]Row{}
		}
		maps.Copy(ids, after[table])
		for _, id := range slices.Sorted(maps.Keys(ids)) {
			old, now := before[table][id], after[table][id]
			if old != nil && now != nil && old.Equal(now) {
				continue
			}
			changes = append(changes, Change{Table: table, UUID: id, Old: old, New: now})
		}
	}
	return changes
}
