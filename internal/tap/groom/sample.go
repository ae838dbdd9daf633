package groom

import (
	"math/bits"
	"math/rand/v2"
)

// sample lets one of N frames or conversations pass.
type sample struct {
	acc    account
	spec   Sample
	count  int
	random *rand.PCG
}

func newSample(s Sample) *sample {
	x := &sample{acc: newAccount("sample", []string{"sampled_out"}, "frames kept for their TCP flags"), spec: s}
	if s.Mode == SampleRandom {
		seed := s.Seed
		if seed == 0 {
			seed = rand.Uint64()
		}
		x.random = rand.NewPCG(seed, seed)
	}
	return x
}

func (s *sample) account() *account { return &s.acc }

// apply draws. A frame that passes for its flags is no part of the sample: it takes no other frame's turn.
func (s *sample) apply(it *item) bool {
	if s.spec.Keep != 0 && it.packet().Inner().TCPFlags&s.spec.Keep != 0 {
		s.acc.note(0)
		return true
	}
	if s.draw(it) {
		return true
	}
	return s.acc.drop(0)
}

func (s *sample) draw(it *item) bool {
	switch s.spec.Mode {
	case SampleRandom:
		return s.one(s.random.Uint64())
	case SampleFlows:
		return s.one(mix(HashPorts.of(it) ^ s.spec.Seed))
	}
	s.count++
	if s.count == s.spec.Rate {
		s.count = 0
	}
	return s.count == 1 || s.spec.Rate == 1
}

// one reports whether x is in the first of N equal parts of the numbers.
func (s *sample) one(x uint64) bool {
	hi, _ := bits.Mul64(x, uint64(s.spec.Rate))
	return hi == 0
}
