package policy

import _ "embed"

//go:embed schema.json
var schema []byte

// Schema returns the JSON Schema (2020-12) of one resource, for editors and others. The caller does not write to it.
func Schema() []byte { return schema }
