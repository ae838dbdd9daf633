// Package decode holds what the decoders of all export protocols share. A template is compiled once to a plan of
// (offset, width, setter), which then fills flow records without allocating; a record's elements can also
// be walked one by one, whether they mean something to flow.Record or not. The formats without templates (NetFlow
// v1, v5, v6, v7) are templates that never change. The framing of each protocol is in a package of its own.
package decode
