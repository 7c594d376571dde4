package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"p2psip/cmd/p2psip/node"
	"p2psip/interwork/edge"
	"p2psip/overlay"
)

// user groups the passwords of phones. They live in the node's data directory; a running node takes changes up by itself.
func (p *program) user() *cli.Command {
	return &cli.Command{
		Name: "user", Usage: "passwords for phones that are not on the node's own machine",
		Description: "p2psip user add alice\np2psip user list",
		Subcommands: []*cli.Command{p.userAdd(), p.userList(), p.userRemove()},
	}
}

// openUsers opens the user store of a node and its document.
func (p *program) openUsers(c *cli.Context) (*edge.UserStore, *overlay.Document, string, error) {
	data, err := p.dataDir(c)
	if err != nil {
		return nil, nil, "", err
	}
	doc, err := node.LoadDocument(data, p.now())
	if err != nil {
		return nil, nil, "", err
	}
	users, err := edge.OpenUsers(data, doc.ID)
	return users, doc, data, err
}

// warnUncovered warns when the node may not register a user in the overlay.
func (p *program) warnUncovered(data string, doc *overlay.Document, aor overlay.AOR) {
	cred, err := node.LoadCredential(data, doc, p.now())
	switch {
	case errors.Is(err, node.ErrNoCredential):
		p.ui.Warn("p2psip node install FILE", "this node has no credential yet, so phones cannot register")
	case err != nil:
		p.ui.Warn("p2psip node install FILE", "%v", err)
	case !cred.Entitled(aor):
		p.ui.Warn("ask whoever runs "+string(doc.ID)+" for a credential with this user",
			"this node's credential is not for %s, so the user's phones cannot register here", aor)
	}
}

func userAOR(doc *overlay.Document, name string) (overlay.AOR, error) {
	aor, err := doc.ID.AOR(name)
	return aor, withHint(err, "a user is named by the part before the @, such as alice")
}

func (p *program) userAdd() *cli.Command {
	return &cli.Command{
		Name: "add", Usage: "let a user's phones register from anywhere, with a password", ArgsUsage: "NAME",
		Description: "p2psip user add alice                               makes a password and shows it once\n" +
			"p2psip user add --password-stdin alice < password   takes the first line of a file",
		Flags: []cli.Flag{dataFlag(),
			&cli.BoolFlag{Name: "password-stdin", Usage: "read the password from standard input instead of making one"},
			&cli.StringFlag{Name: "digest", Value: "both", Usage: "`KIND` of digest that phones may use, md5, sha256 or both; some old phones register only with md5 (default: both)"}, jsonFlag()},
		Action: func(c *cli.Context) error {
			args, err := exactArgs(c, "the name of a user, such as alice")
			if err != nil {
				return err
			}
			users, doc, data, err := p.openUsers(c)
			if err != nil {
				return err
			}
			aor, err := userAOR(doc, args[0])
			if err != nil {
				return err
			}
			digest, err := edge.ParseDigest(c.String("digest"))
			if err != nil {
				return withHint(&usageError{err.Error()}, "such as --digest md5, for a phone that gives up otherwise")
			}
			password := ""
			if c.Bool("password-stdin") {
				if password, err = p.ui.ReadLine(); err != nil {
					return withHint(err, "the password is the first line of standard input")
				}
			} else {
				password = edge.NewPassword()
			}
			if err := users.Add(args[0], password, digest); err != nil {
				return err
			}
			if c.Bool("json") {
				v := map[string]string{"user": aor.User(), "aor": aor.String(), "realm": string(doc.ID)}
				if !c.Bool("password-stdin") {
					v["password"] = password
				}
				p.warnUncovered(data, doc, aor)
				return p.ui.JSON(v)
			}
			p.ui.Say("Phones of %s may now register with this node from anywhere:\n", aor)
			shown := password
			if c.Bool("password-stdin") {
				shown = "(the one you gave)"
			}
			p.ui.Table([]string{"user name", aor.User()}, []string{"domain", string(doc.ID)}, []string{"password", shown})
			if !c.Bool("password-stdin") {
				p.ui.Say("\nWrite the password down: it is not kept and cannot be shown again.")
			}
			p.warnUncovered(data, doc, aor)
			return nil
		},
	}
}

func (p *program) userList() *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "list the users with a password",
		Description: "p2psip user list --json",
		Flags:       []cli.Flag{dataFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			if _, err := exactArgs(c); err != nil {
				return err
			}
			users, doc, _, err := p.openUsers(c)
			if err != nil {
				return err
			}
			list := users.List()
			if c.Bool("json") {
				type view struct {
					User    string    `json:"user"`
					AOR     string    `json:"aor"`
					Created time.Time `json:"created"`
				}
				out := []view{}
				for _, u := range list {
					out = append(out, view{u.Name, fmt.Sprintf("sip:%s@%s", u.Name, doc.ID), u.Created})
				}
				return p.ui.JSON(out)
			}
			if len(list) == 0 {
				p.ui.Say("No user has a password. Phones on this machine need none; for others: p2psip user add NAME")
				return nil
			}
			var rows [][]string
			for _, u := range list {
				rows = append(rows, []string{u.Name, "added " + date(u.Created)})
			}
			p.ui.Table(rows...)
			return nil
		},
	}
}

func (p *program) userRemove() *cli.Command {
	return &cli.Command{
		Name: "remove", Usage: "take a user's password away", ArgsUsage: "NAME",
		Description: "p2psip user remove alice",
		Flags:       []cli.Flag{dataFlag()},
		Action: func(c *cli.Context) error {
			args, err := exactArgs(c, "the name of a user, such as alice")
			if err != nil {
				return err
			}
			users, doc, _, err := p.openUsers(c)
			if err != nil {
				return err
			}
			aor, err := userAOR(doc, args[0])
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(users.List(), func(u edge.User) bool { return u.Name == aor.User() }) {
				return fmt.Errorf("%s: %w", aor, edge.ErrNoUser)
			}
			if err := users.Remove(args[0]); err != nil {
				return err
			}
			p.ui.Say("The password of %s is gone. A phone that is registered stays so until its registration ends.", aor)
			return nil
		},
	}
}
