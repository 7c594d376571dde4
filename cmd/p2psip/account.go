package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"p2psip/cmd/p2psip/node"
	"p2psip/interwork/account"
	"p2psip/overlay"
	"p2psip/overlay/datadir"
)

// account groups the accounts that the node's users have with SIP providers. They live in the node's data directory; a
// running node takes changes up by itself.
func (p *program) account() *cli.Command {
	return &cli.Command{
		Name: "account", Usage: "public numbers of users: accounts with SIP providers outside",
		Description: "p2psip account add sip:alice@provider.example\np2psip account list",
		Subcommands: []*cli.Command{p.accountAdd(), p.accountList(), p.accountShow(), p.accountRemove()},
	}
}

// openAccounts opens the accounts of a node and its document.
func (p *program) openAccounts(c *cli.Context) (*account.Store, *overlay.Document, string, error) {
	data, err := p.dataDir(c)
	if err != nil {
		return nil, nil, "", err
	}
	doc, err := node.LoadDocument(data, p.now())
	if err != nil {
		return nil, nil, "", err
	}
	store, err := account.Open(data, doc.ID)
	return store, doc, data, err
}

func (p *program) accountAdd() *cli.Command {
	return &cli.Command{
		Name: "add", Usage: "register a user's phones with a SIP provider, so that calls for the public number come in", ArgsUsage: "ADDRESS",
		Description: "p2psip account add sip:alice@provider.example\n" +
			"p2psip account add --user alice --auth-user 4711 --default sip:+4930123@provider.example\n" +
			"p2psip account add --password-file secret --proxy sip:edge.provider.example sip:alice@provider.example",
		Flags: []cli.Flag{dataFlag(),
			&cli.StringFlag{Name: "user", Usage: "`NAME` of the overlay's user whose phones ring (default: that of the address, or the node's only user)"},
			&cli.StringFlag{Name: "auth-user", Usage: "`NAME` that goes with the password, if it is not that of the address"},
			&cli.BoolFlag{Name: "password-stdin", Usage: "read the password from standard input instead of asking for it"},
			&cli.StringFlag{Name: "password-file", Usage: "read the password from the first line of a `FILE`"},
			&cli.StringFlag{Name: "registrar", Usage: "`SERVER` that takes the registration (default: the domain of the address)"},
			&cli.StringFlag{Name: "proxy", Usage: "`SERVER` of the provider's that everything goes through (default: none)"},
			&cli.StringFlag{Name: "realm", Usage: "the only `REALM` that gets an answer (default: that of the first registration)"},
			&cli.DurationFlag{Name: "expires", Value: account.DefaultExpires, Usage: "`TIME` to register for (default: 1h)"},
			&cli.StringFlag{Name: "prefix", Usage: "calls dialled with these `DIGITS` in front go out as this address"},
			&cli.BoolFlag{Name: "default", Usage: "all calls of the user that leave the overlay go out as this address"},
			&cli.StringFlag{Name: "contact", Value: "overlay", Usage: "`KIND` of contact, overlay or address; address is for providers that take no domain, and then calls come in through one proxy peer only (default: overlay)"},
			jsonFlag()},
		Action: func(c *cli.Context) error {
			args, err := exactArgs(c, "a public address, such as sip:alice@provider.example")
			if err != nil {
				return err
			}
			store, doc, data, err := p.openAccounts(c)
			if err != nil {
				return err
			}
			a := account.Account{
				AOR: args[0], AuthUser: c.String("auth-user"), Realm: c.String("realm"), Registrar: c.String("registrar"), Proxy: c.String("proxy"),
				Expires: c.Duration("expires"), Contact: account.Contact(c.String("contact")), Prefix: c.String("prefix"), Default: c.Bool("default"),
				Added: p.now().UTC(),
			}
			if a.User, err = p.accountUser(c.String("user"), a.AOR, data, doc); err != nil {
				return err
			}
			a.Password = "?" // everything else is judged before somebody types it
			if err := a.Check(doc.ID); err != nil {
				return err
			}
			if _, err := store.Find(a.AOR); err == nil {
				return fmt.Errorf("%w: %s", account.ErrExists, a.AOR)
			}
			if a.Password, err = p.password(c, a.AOR); err != nil {
				return err
			}
			if err := store.Add(a); err != nil {
				return err
			}
			if c.Bool("json") {
				p.warnPublic(doc)
				return p.ui.JSON(viewAccount(a, doc, nil))
			}
			p.ui.Say("%s rings the phones of sip:%s@%s as soon as a node runs here and one of them is registered.", a.AOR, a.User, doc.ID)
			switch {
			case a.Default:
				p.ui.Say("Their calls that leave the overlay go out as %s.", a.AOR)
			case a.Prefix != "":
				p.ui.Say("Their calls go out as %s when they are dialled with %s in front.", a.AOR, a.Prefix)
			}
			p.ui.Say("p2psip account show %s tells how it stands.", a.AOR)
			p.warnPublic(doc)
			return nil
		},
	}
}

// warnPublic warns when nobody outside can find the overlay.
func (p *program) warnPublic(doc *overlay.Document) {
	if !strings.Contains(string(doc.ID), ".") {
		p.ui.Warn("only an overlay named like a domain can be called from outside", "%s is no domain name", doc.ID)
	}
}

// accountUser finds the user of this node that an account is for.
func (p *program) accountUser(name, aor, data string, doc *overlay.Document) (string, error) {
	cred, err := node.LoadCredential(data, doc, p.now())
	if errors.Is(err, node.ErrNoCredential) && name != "" {
		p.ui.Warn("p2psip node install FILE", "this node has no credential yet, so phones cannot register")
		return name, nil
	}
	if err != nil {
		return "", err
	}
	if name == "" {
		if u, err := account.ParseAddress(aor); err == nil {
			name = u.User
		}
		if own, err := doc.ID.AOR(name); err != nil || !cred.Entitled(own) {
			users := cred.Users()
			if len(users) != 1 {
				return "", withHint(usagef("which user of this node is %s for?", aor), "--user %s", nameOr(users, "NAME"))
			}
			name = users[0].User()
		}
	}
	own, err := userAOR(doc, name)
	if err != nil {
		return "", err
	}
	if !cred.Entitled(own) {
		return "", withHint(fmt.Errorf("this node's credential is not for %s", own), "ask whoever runs %s for a credential with this user; it is for: %s", doc.ID, nameOr(cred.Users(), "nobody"))
	}
	return own.User(), nil
}

func nameOr(users []overlay.AOR, none string) string {
	if len(users) == 0 {
		return none
	}
	var names []string
	for _, u := range users {
		names = append(names, u.User())
	}
	return strings.Join(names, " or ")
}

// password gets the password from where the options say. It is never an argument: those show in the list of processes.
func (p *program) password(c *cli.Context, aor string) (string, error) {
	const first = "the password is the first line"
	switch {
	case c.Bool("password-stdin") && c.String("password-file") != "":
		return "", usagef("--password-stdin and --password-file cannot be together")
	case c.Bool("password-stdin"):
		s, err := p.ui.ReadLine()
		return s, withHint(err, "%s of standard input", first)
	case c.String("password-file") != "":
		b, err := datadir.ReadFile(c.String("password-file"), 4096)
		if err != nil {
			return "", err
		}
		line, _, _ := strings.Cut(string(b), "\n")
		if line = strings.TrimSuffix(line, "\r"); line == "" {
			return "", withHint(errors.New("the file with the password begins with an empty line"), "%s of the file", first)
		}
		return line, nil
	}
	s, err := p.ui.ReadSecret(c.Context, "Password of "+aor+": ")
	if err == nil && s == "" {
		err = errors.New("no password was given")
	}
	return s, withHint(err, "type it on a terminal, or use --password-stdin or --password-file")
}

// accountView is an account for people and programs: everything but the password.
type accountView struct {
	AOR       string          `json:"aor"`
	User      string          `json:"user"`
	AuthUser  string          `json:"auth_user,omitempty"`
	Registrar string          `json:"registrar,omitempty"`
	Proxy     string          `json:"proxy,omitempty"`
	Realm     string          `json:"realm,omitempty"`
	Expires   float64         `json:"expires_seconds"`
	Contact   account.Contact `json:"contact"`
	Prefix    string          `json:"prefix,omitempty"`
	Default   bool            `json:"default,omitempty"`
	Added     time.Time       `json:"added"`
	Status    *account.Status `json:"status,omitempty"` // absent when no node runs
}

func viewAccount(a account.Account, doc *overlay.Document, s *account.Status) accountView {
	v := accountView{
		AOR: a.AOR, User: "sip:" + a.User + "@" + string(doc.ID), AuthUser: a.AuthUser, Registrar: a.Registrar, Proxy: a.Proxy, Realm: a.Realm,
		Expires: a.Expires.Seconds(), Contact: a.Contact, Prefix: a.Prefix, Default: a.Default, Added: a.Added, Status: s,
	}
	if v.Expires == 0 {
		v.Expires = account.DefaultExpires.Seconds()
	}
	if v.Contact == "" {
		v.Contact = account.ContactOverlay
	}
	return v
}

// accountStates asks the running node how its accounts stand; none when there is no such node.
func (p *program) accountStates(ctx context.Context, data string) (func(aor string) *account.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	res, err := node.Ask(ctx, data, node.Request{Do: "status"})
	if errors.Is(err, node.ErrNotRunning) {
		return func(string) *account.Status { return nil }, nil
	}
	if err != nil || res.Status == nil {
		return nil, err
	}
	return func(aor string) *account.Status {
		i := slices.IndexFunc(res.Status.Accounts, func(s account.Status) bool { return s.AOR == aor })
		if i < 0 {
			return nil // added this moment
		}
		return &res.Status.Accounts[i]
	}, nil
}

// accountState says how an account stands, in one cell of a table.
func accountState(s *account.Status, now time.Time) string {
	switch {
	case s == nil:
		return "no node is running"
	case s.State == account.Registered && s.Error != "":
		return "registered for " + span(s.Until.Sub(now)) + ", but: " + s.Error
	case s.State == account.Registered:
		return "registered for " + span(s.Until.Sub(now))
	case s.Error == "":
		return "registering"
	case s.State == account.Refused:
		return "refused: " + s.Error
	case s.State == account.Trying:
		return "not registered: " + s.Error
	}
	return "waiting: " + s.Error
}

func (p *program) accountList() *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "list the accounts and how they stand",
		Description: "p2psip account list --json",
		Flags:       []cli.Flag{dataFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			if _, err := exactArgs(c); err != nil {
				return err
			}
			store, doc, data, err := p.openAccounts(c)
			if err != nil {
				return err
			}
			list, err := store.List()
			if err != nil {
				return err
			}
			state, err := p.accountStates(c.Context, data)
			if err != nil {
				return err
			}
			views := []accountView{}
			var rows [][]string
			for _, a := range list {
				v := viewAccount(a, doc, state(a.AOR))
				views = append(views, v)
				rows = append(rows, []string{v.AOR, "rings " + v.User, accountState(v.Status, p.now())})
			}
			switch {
			case c.Bool("json"):
				return p.ui.JSON(views)
			case len(rows) == 0:
				p.ui.Say("There is no account. To be called at a public number: p2psip account add sip:NAME@PROVIDER")
			default:
				p.ui.Table(rows...)
			}
			return nil
		},
	}
}

func (p *program) accountShow() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "show an account and how it stands", ArgsUsage: "ADDRESS",
		Description: "p2psip account show sip:alice@provider.example",
		Flags:       []cli.Flag{dataFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			args, err := exactArgs(c, "the address of an account")
			if err != nil {
				return err
			}
			store, doc, data, err := p.openAccounts(c)
			if err != nil {
				return err
			}
			a, err := store.Find(args[0])
			if err != nil {
				return err
			}
			state, err := p.accountStates(c.Context, data)
			if err != nil {
				return err
			}
			v := viewAccount(a, doc, state(a.AOR))
			if c.Bool("json") {
				return p.ui.JSON(v)
			}
			p.ui.Table(accountRows(v, p.now())...)
			return nil
		},
	}
}

func accountRows(v accountView, now time.Time) [][]string {
	rows := [][]string{{"address", v.AOR}, {"rings the phones of", v.User}}
	add := func(what, text string) {
		if text != "" {
			rows = append(rows, []string{what, text})
		}
	}
	add("user name", v.AuthUser)
	add("registrar", v.Registrar)
	add("proxy", v.Proxy)
	add("realm", v.Realm)
	add("registers for", span(time.Duration(v.Expires*float64(time.Second))))
	if v.Contact == account.ContactAddress {
		add("contact", "the proxy peer's address")
	}
	switch {
	case v.Default && v.Prefix != "":
		add("calls go out as it", "always, and when dialled with "+v.Prefix+" in front")
	case v.Default:
		add("calls go out as it", "always")
	case v.Prefix != "":
		add("calls go out as it", "when dialled with "+v.Prefix+" in front")
	}
	add("state", accountState(v.Status, now))
	if s := v.Status; s != nil {
		if !s.Until.IsZero() {
			add("registered until", s.Until.UTC().Format(time.DateTime)+" UTC")
			add("contact registered", s.Contact)
		}
		add("through", s.Through)
		if !s.Next.IsZero() {
			add("next attempt", "in "+span(max(s.Next.Sub(now), 0)))
		}
		add("hint", s.Hint)
	}
	return rows
}

func (p *program) accountRemove() *cli.Command {
	return &cli.Command{
		Name: "remove", Usage: "forget an account; a running node unregisters it", ArgsUsage: "ADDRESS",
		Description: "p2psip account remove sip:alice@provider.example",
		Flags:       []cli.Flag{dataFlag()},
		Action: func(c *cli.Context) error {
			args, err := exactArgs(c, "the address of an account")
			if err != nil {
				return err
			}
			store, _, data, err := p.openAccounts(c)
			if err != nil {
				return err
			}
			state, err := p.accountStates(c.Context, data)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			a, err := store.Remove(args[0])
			if err != nil {
				return err
			}
			if s := state(a.AOR); s != nil {
				p.ui.Say("The account %s is gone; the node unregisters it now.", a.AOR)
			} else {
				p.ui.Say("The account %s is gone. No node runs here that could tell the provider: a registration ends by itself within %s.", a.AOR, span(time.Duration(viewAccount(a, &overlay.Document{}, nil).Expires*float64(time.Second))))
			}
			return nil
		},
	}
}
