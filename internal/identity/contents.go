package identity

// Contents returns what a Book was made of, with its history; the zero Inventory for a Book of another make. The lists are the
// Book's: they are not to be written to.
func Contents(b Book) Inventory {
	if own, ok := b.(*book); ok {
		return own.inv
	}
	return Inventory{}
}
