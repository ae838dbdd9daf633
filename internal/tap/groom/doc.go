// Package groom is the part of the tap line that makes of the frames that were captured those that a tool wants.
//
// The steps run in one fixed order, whatever order a spec names them in:
//
//	filter   the cheapest first: what nobody wants costs nothing more
//	repair   super-frames become wire segments and partial checksums are completed, so that every later step
//	         sees what a wire would have carried
//	strip    tags and tunnels go, so that copies taken inside and outside of a tunnel can be compared
//	dedup    before sampling, which would tear the copies of a packet apart
//	sample   before anything that writes to frames: what does not go on is not changed
//	slice    before masking: what is cut needs no mask
//	mask     after everything that looks at addresses and payload; patterns are still searched in the whole payload, so
//	         that a slice cannot hide the end of a match and leave its beginning
//	tag      nothing masks or cuts a label
//	balance  last, over the outputs; it knows the addresses as they were in front of the mask
//
// # The form of flags
//
//	spec   = step { "," step }
//	step   = name [ "=" value ] { "/" option [ "=" value ] }
//	value  = part { "+" part }
//
// Spaces around each of them do not count. A part with a comma, slash, plus or quote in it is put in double quotes, in which \" and \\ stand
// for a quote and a backslash.
//
//	repair               options: mtu=1500 (longer frames without a virtio header are counted)
//	strip=HEADER+…       all, vlan, vlan-outer, vntag, etag, pbb, mpls, pppoe, nsh, vxlan, geneve, gre, erspan, tzsp, gtp,
//	                     ipip; link=raw|ethernet: what a packet tunnelled without Ethernet begins with
//	dedup[=50ms]         packets=N, same-point, count, inner, frame, entries=N, ignore=FIELD+…, compare=FIELD+…;
//	                     fields: ttl, checksum, vlan, mac (ignored unless compared), tos, id, seq
//	sample=1:N           random, flow, seed=N, keep[=syn+fin+rst]
//	slice=PLACE          PLACE: N, l2+N, l3+N, l4+N, l7+N, each from the start of that layer, l7 for l7+0, with inner- in front for
//	                     the innermost packet; after=10p|64kB, drop, idle=30s, flows=N
//	mask=WHAT+…          l7, l7:FROM-, l7:FROM-TO, inner-l4:0-15 and so on; regex:PATTERN, addresses, macs;
//	                     fill=0x00, key-file=PATH, key=HEX
//	tag=LABEL+…          vlan:ID, trailer, comment; per-point, tpid=0x88a8, rule=NAME, rule-id=N, vm=NAME, vm=INTERFACE:NAME+…
//	balance=N            hash=ports|hosts
//
// In YAML a spec is a mapping of steps. A step is true, its main value, or a mapping of its options, in which
// the main value is called headers (strip), window (dedup), rate (sample), to (slice), what (mask), with (tag) or outputs
// (balance). Several parts are a list.
//
// # Memory
//
// Frames that are not changed keep their place in the source's memory, which is never written to. Changed ones are copied to
// chunks of 256 KiB that are used again; at most 4 MiB of them, and 512 frames for each output, gather before they are passed on, so
// the pipeline holds at most that and what the next stage has not released. Dedup takes 27 bytes for each entry, 31 with a window in frames (8 MiB at most; of whole frames in a window of up to 4096 of them 96 bytes for each),
// slicing within conversations 32 bytes for each (2 MiB).
//
// # Books
//
// Each step has a book: in + made = out + dropped. What a step did without losing a frame is told by Notes.
package groom
