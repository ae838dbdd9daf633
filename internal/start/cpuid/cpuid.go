// Package cpuid stands in for github.com/klauspost/cpuid/v2, which github.com/zeebo/xxh3 asks for three features of the processor. That
// library finds out a hundred more when it is initialised, with 80 instructions that each leave a virtual machine: 0.4 ms of every start.
package cpuid

import "golang.org/x/sys/cpu"

// FeatureID names a feature.
type FeatureID uint8

// The features that are asked for.
const (
	SSE2 FeatureID = iota
	AVX2
	AVX512F
)

// CPUInfo is what is known of the processor.
type CPUInfo struct{}

// CPU is the processor that the program runs on.
var CPU CPUInfo

// Has reports whether the processor has a feature, and the system lets programs use it.
func (CPUInfo) Has(id FeatureID) bool {
	switch id {
	case SSE2:
		return cpu.X86.HasSSE2
	case AVX2:
		return cpu.X86.HasAVX2
	case AVX512F:
		return cpu.X86.HasAVX512F
	}
	return false
}
