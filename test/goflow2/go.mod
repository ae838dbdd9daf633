// The collector that tests compare with stands in a module of its own, so that the product never depends on it.
module crosstap-test-goflow2

go 1.26.0

require github.com/netsampler/goflow2/v2 v2.2.6

require google.golang.org/protobuf v1.36.11 // indirect
