package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// program is the command line with everything it depends on.
type program struct {
	ui     *ui
	now    func() time.Time
	getenv func(string) string
	app    *cli.App
}

func newProgram(u *ui) *program {
	p := &program{ui: u, now: time.Now, getenv: os.Getenv}
	p.app = &cli.App{
		Name: "p2psip", HelpName: "p2psip",
		Usage:    "SIP telephony without a server: phones call each other through an overlay of volunteers' nodes",
		HideHelp: true, HideVersion: true,
		DisableSliceFlagSeparator: true, // a multiaddr may hold a comma
		Writer:                    io.Discard, ErrWriter: io.Discard,
		ExitErrHandler: func(*cli.Context, error) {}, // run decides
		Commands: []*cli.Command{
			p.demo(), p.overlay(), p.node(), p.user(), p.account(), p.federation(), p.dns(), p.lookup(), p.status(), p.call(), p.echo(), p.sim(), p.bench(), p.completion(), p.help(),
		},
	}
	quiet(p.app.Commands)
	return p
}

// quiet keeps the library from printing: usage errors come back as errors, help is ours.
func quiet(commands []*cli.Command) {
	for _, c := range commands {
		c.HideHelp = true
		c.OnUsageError = func(ctx *cli.Context, err error, _ bool) error {
			return withHint(usagef("%s", flagError(err)), "p2psip %s --help", commandPath(ctx))
		}
		quiet(c.Subcommands)
	}
}

// commandPath names a command with those above it, as it is typed.
func commandPath(c *cli.Context) string {
	var path []string
	for _, up := range c.Lineage() {
		if up.Command != nil && up.Command.Name != "" && up.Command.Name != up.App.Name {
			if len(path) == 0 || path[0] != up.Command.Name {
				path = append([]string{up.Command.Name}, path...)
			}
		}
	}
	return strings.Join(path, " ")
}

// flagError words what package flag says in this program's manner.
func flagError(err error) string {
	s := err.Error()
	if name, ok := strings.CutPrefix(s, "flag provided but not defined: -"); ok {
		return "there is no option --" + strings.TrimPrefix(name, "-")
	}
	if name, ok := strings.CutPrefix(s, "flag needs an argument: -"); ok {
		return "the option --" + strings.TrimPrefix(name, "-") + " needs a value"
	}
	if m := badValue.FindStringSubmatch(s); m != nil {
		return fmt.Sprintf("%s is no value for --%s", m[1], m[2])
	}
	return s
}

var badValue = regexp.MustCompile(`^invalid (?:boolean )?value (".*") for (?:flag )?-(\S+): `)

// run runs one command line and gives the exit code.
func (p *program) run(ctx context.Context, args []string) int {
	if n := len(args); n > 0 && args[n-1] == completeFlag {
		p.complete(args[:n-1])
		return exitOK
	}
	l := parseLine(p.app.Commands, args)
	if err := p.dispatch(ctx, l); err != nil {
		return p.ui.Fail(err)
	}
	return exitOK
}

func (p *program) dispatch(ctx context.Context, l line) error {
	name := strings.Join(append([]string{"p2psip"}, l.path...), " ")
	switch {
	case l.help:
		p.showHelp(l)
		return nil
	case l.unknown != "":
		hint := name + " --help"
		commands := p.app.Commands
		if l.command != nil {
			commands = l.command.Subcommands
		}
		if s := nearest(commands, l.unknown); s != "" {
			hint = "did you mean: " + name + " " + s
		}
		return withHint(usagef("there is no command %q", strings.Join(append(l.path, l.unknown), " ")), "%s", hint)
	case l.command == nil && len(l.args) == 0:
		p.showHelp(l)
		return nil
	case l.command == nil:
		return usagef("%s stands where a command is expected", l.args[0])
	case l.command.Action == nil:
		return withHint(usagef("%s needs one of its commands: %s", name, commandNames(l.command.Subcommands)), "%s --help", name)
	}
	return p.app.RunContext(ctx, append([]string{"p2psip"}, l.args...))
}

func commandNames(commands []*cli.Command) string {
	var names []string
	for _, c := range commands {
		names = append(names, c.Name)
	}
	return strings.Join(names, ", ")
}

// nearest gives the command that somebody may have meant: one that differs in at most two letters.
func nearest(commands []*cli.Command, word string) string {
	best, at := 3, ""
	for _, c := range commands {
		if d := distance(c.Name, word); d < best {
			best, at = d, c.Name
		}
	}
	return at
}

// distance is the number of letters to be changed, put in or left out to get from a to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diag, row[j+1] = row[j+1], min(diag+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// exactArgs checks the number of words behind the options and gives them.
func exactArgs(c *cli.Context, names ...string) ([]string, error) {
	got := c.Args().Slice()
	name := "p2psip " + commandPath(c)
	switch {
	case len(got) < len(names):
		return nil, withHint(usagef("%s needs %s", name, names[len(got)]), "%s --help", name)
	case len(got) > len(names):
		return nil, withHint(usagef("%s does not know what to do with %q", name, got[len(names)]), "%s --help", name)
	}
	return got, nil
}

// dataFlag is the option that names a node's data directory.
func dataFlag() cli.Flag {
	return &cli.StringFlag{Name: "data", Usage: "`DIR` with the node's data (default: $P2PSIP_DATA, else ~/.local/share/p2psip)"}
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print JSON, for programs"}
}

// dataDir gives the node's data directory.
func (p *program) dataDir(c *cli.Context) (string, error) {
	if c.IsSet("data") {
		if c.String("data") == "" {
			return "", usagef("--data is empty")
		}
		return c.String("data"), nil
	}
	if d := p.getenv("P2PSIP_DATA"); d != "" {
		return d, nil
	}
	if d := p.getenv("XDG_DATA_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "p2psip"), nil
	}
	home := p.getenv("HOME")
	if home == "" {
		return "", withHint(fmt.Errorf("there is no home directory to keep the node's data in"), "name a directory with --data")
	}
	return filepath.Join(home, ".local", "share", "p2psip"), nil
}
