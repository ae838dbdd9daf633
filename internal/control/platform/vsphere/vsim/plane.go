package vsim

type plane struct{}
