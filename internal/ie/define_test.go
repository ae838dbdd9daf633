package ie

import (
	"strings"
	"testing"
)

func TestDefine(t *testing.T) {
	defer func() { _ = Define(nil) }()
	all, err := ParseCSV(strings.NewReader("# ours\npen,id,name,type,unit\n4242,1,queueDepth,unsigned32,packets\n0, 9999, futureThing, string,\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := Define(all); err != nil {
		t.Fatal(err)
	}
	f := func(pen uint32, id uint16, name string, typ Type, u Unit) {
		t.Helper()
		e, ok := Lookup(pen, id)
		if !ok || e.Name != name || e.Type != typ || e.Unit != u || !e.Custom {
			t.Errorf("%d/%d: %+v, %v", pen, id, e, ok)
		}
	}
	f(4242, 1, "queueDepth", Unsigned32, Packets)
	f(0, 9999, "futureThing", String, NoUnit)
	if e, _ := Lookup(0, 8); e.Custom {
		t.Error("a table's own element is taken for a definition")
	}
}

func TestWrongDefinitions(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		all, err := ParseCSV(strings.NewReader(text))
		if err == nil {
			err = Define(all)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	f("", "EOF")
	f("pen,id\n", "the first line must name")
	f("pen,id,name,colour\n", `column "colour" is not known`)
	f("pen,id,name\nx,1,a\n", `line 2: enterprise number "x"`)
	f("pen,id,name\n1,70000,a\n", `identifier "70000"`)
	f("pen,id,name,type\n1,1,a,int\n", `type "int" is not one of`)
	f("pen,id,name,type,unit\n1,1,a,string,cows\n", `unit "cows"`)
	f("pen,id,name\n0,8,a\n", "it is sourceIPv4Address already")
	f("pen,id,name\n1,1,a\n1,1,b\n", "defined twice")
	f("pen,id,name\n1,1,a\n1,2,a\n", "another element has this name")
	f("pen,id,name\n1,1,sourceIPv4Address\n", "another element has this name")
	f("pen,id,name\n1,1,a b\n", "a space")
	if _, ok := Lookup(1, 1); ok {
		t.Error("a wrong set of definitions is in force")
	}
}
