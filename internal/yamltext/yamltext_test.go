package yamltext

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type doc struct {
	Name  string            `yaml:"name"`
	List  []string          `yaml:"list"`
	Inner map[string]string `yaml:"inner"`
}

func TestDecode(t *testing.T) {
	read := func(text string, want doc) {
		t.Helper()
		var got doc
		if err := Decode([]byte(text), &got); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%q (-want +got):\n%s", text, d)
		}
	}
	read("", doc{})
	read("# nothing\n", doc{})
	read("---\n", doc{})
	read("name: a\nlist: [b, c]\ninner: {d: e}\n", doc{"a", []string{"b", "c"}, map[string]string{"d": "e"}})
	read(`{"name": "a", "list": ["b"]}`, doc{Name: "a", List: []string{"b"}})
	read("name: &n a\nlist: [*n, *n]\n", doc{Name: "a", List: []string{"a", "a"}})
}

func TestMistakes(t *testing.T) {
	refused := func(text string, want Error) {
		t.Helper()
		var e *Error
		if err := Decode([]byte(text), &doc{}); !errors.As(err, &e) {
			t.Fatalf("%q: %v, want an *Error", text, err)
		}
		if want.Message == "" {
			want.Message = e.Message
		}
		if d := cmp.Diff(want, *e); d != "" {
			t.Errorf("%q (-want +got):\n%s", text, d)
		}
	}
	refused("name: a\nnome: b\n", Error{Line: 2, Column: 1, Message: `unknown key "nome"`, Key: "nome", Near: "name"})
	refused("name: a\nzzzzzz: b\n", Error{Line: 2, Column: 1, Message: `unknown key "zzzzzz"`, Key: "zzzzzz"})
	refused("name: a\ninners: b\n", Error{Line: 2, Column: 1, Message: `unknown key "inners"`, Key: "inners", Near: "inner"})
	refused("name: a\n---\nname: b\n", Error{Message: "2 documents, want one"})
	refused("name: [a\n", Error{Line: 1, Column: 7})
	refused("name: a\nlist: b\n", Error{Line: 2, Column: 7, Place: "$.list"})
	refused("list: *nobody\n", Error{Line: 1, Column: 8})
	refused("name: a\n\tlist: [b]\n", Error{Line: 2, Column: 1, Message: "a tab stands where YAML takes only spaces"})
	refused("list:\n\t- b\n", Error{Line: 2, Column: 1, Message: "a tab stands where YAML takes only spaces"})
}

// A key that is known elsewhere is no guess for itself.
func TestElsewhere(t *testing.T) {
	var e *Error
	err := Decode([]byte("deep: {}\ndepth: 1\n"), &struct {
		Deep struct {
			Depth int `yaml:"depth"`
		} `yaml:"deep"`
	}{})
	if !errors.As(err, &e) || e.Key != "depth" || e.Near == "depth" {
		t.Errorf("%v", err)
	}
}

// TestDepth has what the library's memory or stack would grow by.
func TestDepth(t *testing.T) {
	deep := func(name, text string) {
		t.Helper()
		_, err := Parse([]byte(text))
		if err == nil || !strings.Contains(err.Error(), "stand in each other") {
			t.Errorf("%s: %v, want a refusal for its depth", name, err)
		}
	}
	for name, sign := range map[string]string{"lists": "[", "mappings": "{a: ", "entries": "- ", "keys": "? ", "tags": "!a ", "anchors": "&a ", "values": "a: ", "in a list": "[a: ", "pairs": "[? "} {
		deep(name, strings.Repeat(sign, 1_000_000/len(sign)))
	}
	var lines strings.Builder
	for i := range 1000 {
		lines.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	deep("columns", lines.String())

	read := func(name, text string) {
		t.Helper()
		if _, err := Parse([]byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	read("60 lists", strings.Repeat("[", 60)+strings.Repeat("]", 60))
	read("a long list", "a: ["+strings.Repeat("{b: [c], d: e}, ", 5000)+"f]\n")
	read("a long list in lines", "a:\n"+strings.Repeat("  - b: !!str c\n    d: &e f\n    # g\n", 5000))
	read("brackets in texts", "a: '"+strings.Repeat("[", 500)+"'\nb: \""+strings.Repeat("{", 500)+"\"\nc: |\n  "+strings.Repeat("- ", 500)+"\n")
	read("comments", strings.Repeat("#", 500)+"\na: 1 "+strings.Repeat("# - ", 500)+"\n")
}

// TestAliases: texts that are short and mean much stay cheap, or are refused.
func TestAliases(t *testing.T) {
	text := "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i < 40; i++ {
		p := "*a" + strconv.Itoa(i-1)
		text += "a" + strconv.Itoa(i) + ": &a" + strconv.Itoa(i) + " [" + strings.Repeat(p+", ", 8) + p + "]\n"
	}
	for _, v := range []any{new(any), new(map[string][]string), new(doc)} {
		_ = Decode([]byte(text), v)
	}
	_ = Decode([]byte("name: &a [*a, *a]\nlist: *a\n"), new(any))
	_ = Decode([]byte("name: &a [*a, *a]\nlist: *a\n"), new(doc))
}

func TestPosition(t *testing.T) {
	f, err := Parse([]byte("name: a\nspec:\n  budget:\n    cpu: 1\n  list:\n    - b: 1\n    - b: 2\n"))
	if err != nil {
		t.Fatal(err)
	}
	root, err := Root(f)
	if err != nil {
		t.Fatal(err)
	}
	at := func(place string, wantLine, wantColumn int) {
		t.Helper()
		if line, column := Position(root, place); line != wantLine || column != wantColumn {
			t.Errorf("%s: %d:%d, want %d:%d", place, line, column, wantLine, wantColumn)
		}
	}
	at("$.name", 1, 7)
	at("$.spec.budget.cpu", 4, 10)
	at("$.spec.budget.mirror", 4, 5) // not there: what is around it
	at("$.spec.list[1].b", 7, 10)
	at("$.nothing.at.all", 1, 1)
	at("$[", 1, 1)
}

func TestIn(t *testing.T) {
	says := func(err error, want string) {
		t.Helper()
		if got := In("f.yaml", err).Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	says(&Error{Line: 2, Column: 3, Message: "m"}, "f.yaml:2:3: m")
	says(&Error{Line: 2, Column: 3, Message: "m", Key: "a", Near: "b"}, `f.yaml:2:3: m; did you mean "b"?`)
	says(&Error{Message: "m"}, "f.yaml: m")
	says(errors.New("m"), "f.yaml: m")
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("name: a\nlist: [b, &c d, *c]\ninner:\n  e: f\n"))
	f.Add([]byte("{\"name\": \"a\"}"))
	f.Add([]byte("- ? !!a &b [*b]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var d doc
		_ = Decode(text, &d)
		var v any
		_ = Decode(text, &v)
		if file, err := Parse(text); err == nil {
			if n, err := Root(file); err == nil && n != nil {
				Position(n, "$.list[1]")
			}
		}
	})
}

type typed struct {
	Name  string            `yaml:"name"`
	Count int               `yaml:"count"`
	Small uint8             `yaml:"small"`
	On    bool              `yaml:"on"`
	List  []int             `yaml:"list"`
	Inner map[string]string `yaml:"inner"`
	Deep  *struct {
		Part float64 `yaml:"part"`
	} `yaml:"deep"`
}

func TestWrongTypes(t *testing.T) {
	refused := func(text, place, want string) {
		t.Helper()
		var e *Error
		err := Decode([]byte(text), &typed{})
		if !errors.As(err, &e) || e.Error() != want || e.Place != place {
			t.Errorf("%q:\n%v (at %s)\nwant\n%s", text, err, e.Place, want)
		}
	}
	refused("name: a\ncount: many\n", "$.count", `2:8: count: want a whole number, found the text "many"`)
	refused("count: [1]\n", "$.count", `1:8: count: want a whole number, found a list`)
	refused("count:\n  a: 1\n  b: 2\n", "$.count", `2:3: count: want a whole number, found a mapping`)
	refused("small: 300\n", "$.small", `1:8: small: want a whole number from 0 to 255, found the number 300`)
	refused("small: -1\n", "$.small", `1:8: small: want a whole number from 0 to 255, found the number -1`)
	refused("count: 64.7\n", "$.count", `1:8: count: want a whole number, found the number 64.7`)
	refused("count: '64.7'\n", "$.count", `1:8: count: want a whole number, found the text "64.7"`)
	refused("list: [1, 2.5]\n", "$.list[1]", `1:11: list[1]: want a whole number, found the number 2.5`)
	refused("on: \"yes\"\n", "$.on", `1:5: on: want true or false, found the text "yes"`)
	refused("name: [a]\n", "$.name", `1:7: name: want a text, found a list`)
	refused("list: 5\n", "$.list", `1:7: list: want a list, found the number 5`)
	refused("list: 'a, b'\n", "$.list", `1:7: list: want a list, found the text "a, b"; write ["a, b"]`)
	refused("list:\n- 1\n- x\n", "$.list[1]", `3:3: list[1]: want a whole number, found the text "x"`)
	refused("inner: [a]\n", "$.inner", `1:8: inner: want a mapping (key: value), found a list`)
	refused("inner: a\n", "$.inner", `1:8: inner: want a mapping (key: value), found the text "a"`)
	refused("inner:\n  k: [v]\n", "$.inner.k", `2:6: inner.k: want a text, found a list`)
	refused("deep: {part: half}\n", "$.deep.part", `1:14: deep.part: want a number, found the text "half"`)
	refused("- name\n", "$", `1:1: want a mapping (key: value), found a list`)
	refused("count: |\n  "+strings.Repeat("x", 50)+"\n", "$.count", `1:8: count: want a whole number, found the text "`+strings.Repeat("x", 40)+`…"`)
}

// Documents after one with nothing in it are there.
func TestEmptyDocuments(t *testing.T) {
	f := func(text string, want ...string) {
		t.Helper()
		file, err := Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, doc := range file.Docs {
			if hasContent(doc.Body) {
				got = append(got, doc.Body.String())
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%q (-want +got):\n%s", text, d)
		}
	}
	f("a: 1\n---\n---\nb: 2\n", "a: 1", "b: 2")
	f("a: 1\n---\n# x\n---\nb: 2\n---\nc: 3\n", "a: 1", "b: 2", "c: 3")
	f("---\n---\n---\na: 1\n", "a: 1")
	f("# x\n---\n---\na: 1\n---\n", "a: 1")
	f("a: 1\n...\n---\nb: 2\n", "a: 1", "b: 2")
	f("---\n---\n")
}

func TestSources(t *testing.T) {
	f := func(text string, want ...string) {
		t.Helper()
		file, err := Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, Sources([]byte(text), file)); d != "" {
			t.Errorf("%q (-want +got):\n%s", text, d)
		}
	}
	f("a: 1\n", "a: 1\n")
	f("\n\n# one\na: 1 # two\n\nb: 2\n\n\n", "# one\na: 1 # two\n\nb: 2\n")
	f("a: 1\n---\nb: 2", "a: 1\n", "b: 2\n")
	f("---\na: 1\n---\n# of b\nb: 2\n...\n", "a: 1\n", "# of b\nb: 2\n")
	f("# of the file\n---\na: 1\n---\n\n---\nb: 2\n---\n# the end\n", "# of the file\na: 1\n", "b: 2\n# the end\n")
	f("--- # of a\na: 1\n--- {b: 2}\n", "# of a\na: 1\n", "{b: 2}\n")
	f("a: 1\r\nb: 2\r\n---\r\nc: 3\r\n", "a: 1\nb: 2\n", "c: 3\n")
	f("a: |\n  # no comment\n  -- no mark\n  ---no mark\nb: '--- x'\n", "a: |\n  # no comment\n  -- no mark\n  ---no mark\nb: '--- x'\n")
	f("  a: 1\n  b: 2\n", "  a: 1\n  b: 2\n")
	f("# nothing\n")
}

// What is told of a document reads as the same document.
func FuzzSources(f *testing.F) {
	f.Add("# x\n---\na: 1\n---\nb: [2] # y\n...\n")
	f.Add("%YAML 1.2\n---\na: |\n  b\n")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := Parse([]byte(text))
		if err != nil {
			return
		}
		for _, one := range Sources([]byte(text), file) {
			if one == "" || !strings.HasSuffix(one, "\n") {
				t.Errorf("%q gives %q", text, one)
			}
		}
	})
}
