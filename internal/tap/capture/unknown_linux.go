package capture

import (
	"fmt"
	"net"
	"strings"
)

// UnknownInterface says that there is no interface of that name, and which there are.
type UnknownInterface struct {
	Name string
	Have []string
}

func (e *UnknownInterface) Error() string {
	return fmt.Sprintf("interface %q: there is none of that name; there are: %s", e.Name, strings.Join(e.Have, ", "))
}

// unknownInterface lists the interfaces of the present thread's namespace.
func unknownInterface(name string) error {
	e := &UnknownInterface{Name: name}
	all, _ := net.Interfaces()
	for _, i := range all {
		e.Have = append(e.Have, i.Name)
	}
	return e
}
