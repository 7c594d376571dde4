package sim

import (
	"embed"
	"strings"
)

//go:embed testdata/*.sim
var builtin embed.FS

// Builtin is a scenario that comes with the program.
type Builtin struct {
	Name  string // that of its file
	Text  string
	About string // its first comment, one line
}

// Scenarios gives the scenarios that come with the program, by name.
func Scenarios() []Builtin {
	files, err := builtin.ReadDir("testdata")
	if err != nil {
		panic(err) // they are part of the program
	}
	var out []Builtin
	for _, f := range files {
		text, err := builtin.ReadFile("testdata/" + f.Name())
		if err != nil {
			panic(err)
		}
		about, _, _ := strings.Cut(strings.TrimLeft(string(text), "# "), "\n")
		out = append(out, Builtin{Name: strings.TrimSuffix(f.Name(), ".sim"), Text: string(text), About: about})
	}
	return out
}
