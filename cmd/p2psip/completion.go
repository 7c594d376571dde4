package main

import (
	"strings"

	"github.com/urfave/cli/v2"
)

func (p *program) completion() *cli.Command {
	return &cli.Command{
		Name: "completion", Usage: "print a script that lets a shell complete p2psip's commands", ArgsUsage: "bash|zsh|fish",
		Description: "source <(p2psip completion bash)                                 # for this shell; in ~/.bashrc for all\n" +
			"p2psip completion fish > ~/.config/fish/completions/p2psip.fish",
		Action: func(c *cli.Context) error {
			args, err := exactArgs(c, "the name of a shell: bash, zsh or fish")
			if err != nil {
				return err
			}
			switch args[0] {
			case "bash":
				p.ui.Say("%s", bashCompletion)
			case "zsh":
				p.ui.Say("%s", zshCompletion)
			case "fish":
				p.ui.Say("%s", fishCompletion)
			default:
				return withHint(usagef("there is no completion for the shell %q", args[0]), "bash, zsh and fish are known")
			}
			return nil
		},
	}
}

// completeFlag as the last word asks for the words that may stand in place of the one before it.
const completeFlag = "--generate-completion"

// complete prints, one a line, what may come next; the last word is the one being typed.
func (p *program) complete(words []string) {
	last := ""
	if len(words) > 0 {
		last, words = words[len(words)-1], words[:len(words)-1]
	}
	l := parseLine(p.app.Commands, words)
	if strings.HasPrefix(last, "-") {
		if l.command == nil {
			return
		}
		for _, f := range l.command.Flags {
			p.ui.Say("--%s", f.Names()[0])
		}
		p.ui.Say("--help")
		return
	}
	commands := p.app.Commands
	switch {
	case l.command != nil && l.command.Name == "help" && len(l.path) == 1:
	case l.command != nil && l.command.Name == "completion":
		p.ui.Say("bash\nzsh\nfish")
		return
	case l.command != nil:
		commands = l.command.Subcommands
	}
	for _, c := range commands {
		p.ui.Say("%s", c.Name)
	}
}

// The scripts ask the program itself; where it knows nothing, they complete the names of files.
const (
	bashCompletion = `_p2psip() {
  local cur=${COMP_WORDS[COMP_CWORD]}
  local words
  words=$("${COMP_WORDS[@]:0:COMP_CWORD}" "$cur" ` + completeFlag + ` 2>/dev/null)
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  [[ ${#COMPREPLY[@]} -gt 0 ]] || COMPREPLY=($(compgen -f -- "$cur"))
}
complete -o filenames -F _p2psip p2psip`

	zshCompletion = `#compdef p2psip
_p2psip() {
  local -a found
  found=(${(f)"$(${words[1,CURRENT-1]} "${words[CURRENT]}" ` + completeFlag + ` 2>/dev/null)"})
  if (( ${#found} )); then compadd -- $found; else _files; fi
}
compdef _p2psip p2psip`

	fishCompletion = `function __p2psip_complete
  set -l line (commandline -opc)
  $line (commandline -ct) ` + completeFlag + ` 2>/dev/null
end
complete -c p2psip -a '(__p2psip_complete)'`
)
