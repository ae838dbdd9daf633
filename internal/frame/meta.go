package frame

// Option is an option of a pcapng block. Numbers in its value are in little-endian order.
type Option struct {
	Code  uint16
	Value []byte
}

// Block is a pcapng block that stands beside frames, in little-endian order.
type Block struct {
	Kind uint32
	Body []byte // with what options it has, and their end
}
