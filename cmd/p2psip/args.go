package main

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// line is a command line taken apart: the command it names, whether help is asked for, and its words with the options
// moved in front of the rest, as package flag wants them. People write them in any order.
type line struct {
	command *cli.Command // nil: none named
	path    []string     // names of the command and those above it
	help    bool
	args    []string // to run
	unknown string   // a word where the name of a command was expected
}

// parseLine reads the words behind the program's name.
func parseLine(root []*cli.Command, args []string) line {
	var l line
	commands := root
	for len(args) > 0 {
		c := find(commands, args[0])
		if c == nil {
			break
		}
		l.command, l.path, commands = c, append(l.path, c.Name), c.Subcommands
		args = args[1:]
	}
	var options, rest []string
	for len(args) > 0 {
		a := args[0]
		args = args[1:]
		switch {
		case a == "--":
			rest, args = append(rest, args...), nil
		case a == "-h" || a == "--help":
			l.help = true
		case len(a) > 1 && a[0] == '-':
			options = append(options, a)
			if name := strings.TrimLeft(a, "-"); !strings.Contains(name, "=") && l.takesValue(name) && len(args) > 0 {
				options = append(options, args[0])
				args = args[1:]
			}
		default:
			rest = append(rest, a)
		}
	}
	if len(commands) > 0 && len(rest) > 0 && (l.command == nil || l.command.ArgsUsage == "") {
		l.unknown = rest[0]
	}
	l.args = append(append([]string{}, l.path...), options...)
	if len(rest) > 0 {
		l.args = append(append(l.args, "--"), rest...)
	}
	return l
}

func find(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

// takesValue says whether the option of that name is followed by a value.
func (l *line) takesValue(name string) bool {
	if l.command == nil {
		return false
	}
	for _, f := range l.command.Flags {
		for _, n := range f.Names() {
			if n == name {
				d, ok := f.(cli.DocGenerationFlag)
				return ok && d.TakesValue()
			}
		}
	}
	return false
}
