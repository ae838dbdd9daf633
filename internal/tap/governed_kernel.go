package tap

import (
	"time"

	"crosstap/internal/kernel"
	"crosstap/internal/tap/capture"
	"crosstap/internal/tap/governor"
)

// leaveOutInKernel has programs of the kernel do it. Copies that the kernel makes end where those of user space would.
func (t *Tap) leaveOutInKernel(all []inPlace, shed capture.Shed, shut bool, applied func(time.Time)) {
	s := kernel.Shed{Off: shed.Off || shut && t.path.product == mirrorProduct, Keep: shed.Snap, Sample: shed.Sample}
	var from time.Time
	for _, p := range all {
		at, err := p.SetShed(s)
		if err != nil && t.spec.Log != nil {
			t.spec.Log.Warn("kernel not told what to leave out", "error", err)
		}
		from = at
	}
	applied(from)
}

// Costs of a frame in the kernel, on the account of whoever sends it (measured on a Linux bridge; docs/guide/governor.md).
const (
	kernelFull, kernelSliced, kernelLook = 180e-9, 115e-9, 25e-9 // seconds, through the packet ring
	kernelCopy, kernelCount, kernelHead  = 690e-9, 50e-9, 75e-9  // of programs that copy, count, hand headers over
)

// kernelCost returns the CPU that the kernel takes for frames that reach the tap and for those that it only looks at.
func (t *Tap) kernelCost(passed float64, offered governor.Load, l governor.Level) float64 {
	if offered.Unseen {
		return 0
	}
	each := kernelFull
	switch product := t.path.product; {
	case product == mirrorProduct && t.path.copies.Load() != nil:
		each = kernelCopy
	case product == flowsProduct:
		each = kernelCount
	case product == headProduct:
		each = kernelHead
	case t.live == nil:
		return 0
	case l >= governor.Sliced:
		each = kernelSliced
	}
	return passed*each + max(offered.Frames-passed, 0)*kernelLook
}

// readingInKernel returns what programs of the kernel have counted. Each destination of copies counts for itself.
func (t *Tap) readingInKernel(all []inPlace) (r reading) {
	r.exact = true
	for _, p := range all {
		n := p.Tally()
		r.frames, r.bytes, r.passed = r.frames+n.Matched, r.bytes+n.Bytes, r.passed+n.Passed
		if m, ok := p.programs.(*kernel.Mirror); ok {
			r.sent += m.Sent()
		}
	}
	r.link = all[0].Traffic() * uint64(len(all))
	return r
}

// ringBytes returns the kernel's memory for frames on their way to the tap.
func (t *Tap) ringBytes() int {
	switch t.path.product {
	case flowsProduct, headProduct:
		return kernelRing(t.spec.RingBytes)
	case mirrorProduct:
		if t.path.copies.Load() != nil {
			return 0
		}
	}
	return len(t.spec.Interfaces) * t.spec.RingBytes
}
