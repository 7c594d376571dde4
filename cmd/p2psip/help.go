package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

func (p *program) help() *cli.Command {
	return &cli.Command{
		Name: "help", Usage: "explain a command, or the exit codes", ArgsUsage: "[COMMAND… | exit-codes]",
		Description: "p2psip help overlay create\np2psip help exit-codes",
		Action: func(c *cli.Context) error {
			words := c.Args().Slice()
			if len(words) == 1 && words[0] == "exit-codes" {
				p.showExitCodes()
				return nil
			}
			l := parseLine(p.app.Commands, words)
			if len(l.path) < len(words) {
				return withHint(usagef("there is no command %q", strings.Join(words, " ")), "p2psip help")
			}
			p.showHelp(l)
			return nil
		},
	}
}

func (p *program) showExitCodes() {
	p.ui.Say("Exit codes of p2psip:\n")
	var rows [][]string
	for _, e := range exitCodes {
		rows = append(rows, []string{fmt.Sprint(e.code), e.meaning})
	}
	p.ui.Table(rows...)
}

// showHelp explains the command that a line names, or the program. A command's Description holds its examples, one a line.
func (p *program) showHelp(l line) {
	if l.command == nil {
		p.ui.Say("p2psip: %s\n", p.app.Usage)
		p.ui.Say("Commands:")
		p.ui.Table(commandRows(p.app.Commands)...)
		p.ui.Say("\nExamples:")
		p.ui.Table([]string{"p2psip demo", "see it work"}, []string{"p2psip help node", "explain a command"},
			[]string{"p2psip help exit-codes", "what the exit codes mean"})
		return
	}
	c := l.command
	name := strings.Join(append([]string{"p2psip"}, l.path...), " ")
	p.ui.Say("%s: %s\n", name, c.Usage)
	usage := name
	if len(c.Flags) > 0 {
		usage += " [options]"
	}
	if c.ArgsUsage != "" {
		usage += " " + c.ArgsUsage
	}
	if c.Action != nil {
		p.ui.Say("  %s", usage)
	} else {
		p.ui.Say("  %s COMMAND", name)
	}
	if len(c.Subcommands) > 0 {
		p.ui.Say("\nCommands:")
		p.ui.Table(commandRows(c.Subcommands)...)
	}
	if len(c.Flags) > 0 {
		p.ui.Say("\nOptions:")
		p.ui.Table(flagRows(c.Flags)...)
	}
	if c.Description != "" {
		p.ui.Say("\nExamples:")
		for _, e := range strings.Split(c.Description, "\n") {
			p.ui.Say("  %s", e)
		}
	}
}

func commandRows(commands []*cli.Command) (rows [][]string) {
	for _, c := range commands {
		if !c.Hidden {
			rows = append(rows, []string{c.Name, c.Usage})
		}
	}
	return rows
}

func flagRows(flags []cli.Flag) (rows [][]string) {
	for _, f := range flags {
		d, ok := f.(cli.DocGenerationFlag)
		if !ok {
			continue
		}
		left := "--" + f.Names()[0]
		value, usage := unquote(d.GetUsage())
		if d.TakesValue() {
			left += " " + value
			if _, ok := f.(*cli.StringSliceFlag); ok {
				left += " …"
			}
		}
		for _, alias := range f.Names()[1:] {
			left += ", -" + alias
		}
		rows = append(rows, []string{left, usage})
	}
	return rows
}

// unquote takes the placeholder of a value, which stands in back quotes, out of an option's explanation.
func unquote(usage string) (value, text string) {
	before, rest, ok := strings.Cut(usage, "`")
	if !ok {
		return "VALUE", usage
	}
	value, after, _ := strings.Cut(rest, "`")
	return value, before + value + after
}
