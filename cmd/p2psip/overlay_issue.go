package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/urfave/cli/v2"

	"p2psip/cmd/p2psip/node"
	"p2psip/overlay"
	"p2psip/overlay/datadir"
)

const defaultDays = 365

func (p *program) overlayIssue() *cli.Command {
	return &cli.Command{
		Name: "issue", Usage: "sign a member credential: which users a node speaks for, and which roles it may take",
		Description: "p2psip overlay issue --user alice --data alice-node                a node on this machine\n" +
			"p2psip overlay issue --user bob --node 12D3KooW… -o credential.pem  a node elsewhere",
		Flags: []cli.Flag{
			authorityFlag(),
			&cli.StringSliceFlag{Name: "user", Usage: "`NAME` of a user whose phones hang on the node"},
			&cli.StringSliceFlag{Name: "role", Usage: "`ROLE` that the node may take, proxy or relay"},
			&cli.IntFlag{Name: "days", Value: defaultDays, Usage: "`N` days that it is valid (default: 365)"},
			&cli.StringFlag{Name: "node", Usage: "`NODEID` of the node; p2psip node init and p2psip node id print it"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "`FILE` to write the credential to"},
			&cli.StringFlag{Name: "data", Usage: "`DIR` with the data of a node on this machine: made if need be, everything is installed there"},
			jsonFlag(),
		},
		Action: p.issue,
	}
}

// issuedView is a credential for programs.
type issuedView struct {
	Node    string    `json:"node"`
	Users   []string  `json:"users"`
	Roles   []string  `json:"roles"`
	Expires time.Time `json:"expires"`
	File    string    `json:"file"`
}

func (p *program) issue(c *cli.Context) error {
	if _, err := exactArgs(c); err != nil {
		return err
	}
	toFile, toData := c.IsSet("node") || c.IsSet("output"), c.IsSet("data")
	switch {
	case toFile == toData:
		return withHint(usagef("say whom the credential is for"), "--data DIR for a node on this machine, or --node NODEID and -o FILE for one elsewhere")
	case toFile && (c.String("node") == "" || c.String("output") == ""):
		return withHint(usagef("--node and -o belong together"), "--node NODEID says whom the credential is for, -o FILE where to write it")
	case toData && c.String("data") == "":
		return usagef("--data is empty")
	case len(c.StringSlice("user"))+len(c.StringSlice("role")) == 0:
		return withHint(usagef("the credential would say nothing"), "name a user with --user, or a role with --role")
	}
	life, err := days(c)
	if err != nil {
		return err
	}
	if life == 0 {
		life = defaultDays * 24 * time.Hour
	}
	a, _, err := p.loadAuthority(c)
	if err != nil {
		return err
	}
	var users []overlay.AOR
	for _, name := range c.StringSlice("user") {
		aor, err := a.Document().ID.AOR(name)
		if err != nil {
			return withHint(err, "--user takes the part before the @, such as alice")
		}
		users = append(users, aor)
	}
	var roles []overlay.Role
	for _, name := range c.StringSlice("role") {
		r, err := overlay.ParseRole(name)
		if err != nil {
			return withHint(&usageError{err.Error()}, "such as --role proxy")
		}
		roles = append(roles, r)
	}
	if toFile {
		return p.issueFile(c, a, users, roles, life)
	}
	return p.issueData(c, a, users, roles, life)
}

func (p *program) issueFile(c *cli.Context, a *overlay.Authority, users []overlay.AOR, roles []overlay.Role, life time.Duration) error {
	id, err := peer.Decode(c.String("node"))
	if err != nil {
		return withHint(usagef("%q is no node identifier", c.String("node")), "it begins with 12D3KooW; p2psip node id prints it on the node's machine")
	}
	cred, err := a.Issue(id, users, roles, life, p.now())
	if err != nil {
		return withHint(fmt.Errorf("issuing the credential: %w", err), "p2psip node id prints the node's identifier on its machine")
	}
	path := c.String("output")
	if _, err := os.Lstat(path); err == nil {
		return withHint(fmt.Errorf("%s exists; it is not overwritten", path), "choose another name with -o")
	}
	if err := datadir.WriteFile(path, cred.PEM(), 0o644); err != nil {
		return err
	}
	if c.Bool("json") {
		return p.ui.JSON(issued(cred, path))
	}
	p.sayIssued(cred, "written to "+path)
	p.ui.Say("\nGive it to the node's owner, who installs it with:\n  p2psip node install %s", path)
	return nil
}

func (p *program) issueData(c *cli.Context, a *overlay.Authority, users []overlay.AOR, roles []overlay.Role, life time.Duration) error {
	data := c.String("data")
	home, err := node.OpenHome(data)
	running := errors.Is(err, datadir.ErrLocked)
	if err != nil && !running {
		return err
	}
	if home != nil {
		defer home.Close()
	}
	id, err := node.Install(data, a.Document(), p.now())
	if err != nil {
		return err
	}
	// Another user for a node that has some is one more, not one instead: their phones are registered there.
	if old, err := node.LoadCredential(data, a.Document(), p.now()); err == nil {
		users, roles = union(old.Users(), users), union(old.Roles(), roles)
	}
	cred, err := a.Issue(id, users, roles, life, p.now())
	if err != nil {
		return fmt.Errorf("issuing the credential: %w", err)
	}
	path, err := node.InstallCredential(data, cred.PEM(), p.now())
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.ui.JSON(issued(cred, path))
	}
	p.sayIssued(cred, "installed in "+data)
	if running {
		p.ui.Say("\nA node is running there; it uses the credential from its next start on.")
	} else {
		p.ui.Say("\nNext:\n  p2psip node --data %s", data)
	}
	return nil
}

// union gives the values of both lists, each once, those of a first.
func union[T comparable](a, b []T) []T {
	out := slices.Clone(a)
	for _, v := range b {
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

func (p *program) sayIssued(cred *overlay.Credential, where string) {
	p.ui.Say("A credential is %s:\n", where)
	rows := [][]string{{"node", cred.Node().String()}}
	for _, u := range cred.Users() {
		rows = append(rows, []string{"user", u.String()})
	}
	for _, r := range cred.Roles() {
		rows = append(rows, []string{"role", string(r)})
	}
	p.ui.Table(append(rows, []string{"valid until", validUntil(cred.Expires(), p.now())})...)
}

func issued(cred *overlay.Credential, path string) issuedView {
	v := issuedView{Node: cred.Node().String(), Users: []string{}, Roles: []string{}, Expires: cred.Expires().UTC(), File: path}
	for _, u := range cred.Users() {
		v.Users = append(v.Users, u.String())
	}
	for _, r := range cred.Roles() {
		v.Roles = append(v.Roles, string(r))
	}
	return v
}
