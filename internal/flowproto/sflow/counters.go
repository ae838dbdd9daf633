package sflow

import (
	"crosstap/internal/flow"
	"crosstap/internal/flowproto/decode"
)

// counterSample reads what a source's counters stood at.
func (w *walk) counterSample(expanded bool) {
	sequence := w.c.u32()
	w.source(sequence, expanded, sampleCounters)
	n := int(w.c.u32())
	if w.c.bad {
		return
	}
	w.s.Result().CounterSamples++
	w.showSource("counters_sample", sequence, expanded)
	var told []decode.Counter
	tell := w.s.onCounters != nil && !w.showing
	for range n {
		format, size := w.c.u32(), int(w.c.u32())
		at := w.c.off
		body := w.c.take(size)
		if w.c.bad {
			break
		}
		switch {
		case w.showing:
			w.showStructure(counterStructures()[format], format, body, w.off+at)
		case tell:
			columnsOf(counterStructures()[format], format, body, w.off+at, func(block string, v decode.Value) {
				told = append(told, decode.Counter{Block: block, Value: v})
			})
		}
	}
	if w.showing {
		w.s.Sample(decode.KindCounters, w.item(decode.KindCounters), new(flow.Record))
	}
	if tell {
		w.s.onCounters(&decode.Counters{
			Agent: w.info.Agent, Domain: w.info.SubAgent, SourceType: w.class, SourceID: w.index, Sequence: sequence,
			UptimeMS: w.info.UptimeMS, RecvNS: w.recvNS, Values: told,
		})
	}
}
