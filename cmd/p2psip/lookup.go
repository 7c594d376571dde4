package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"p2psip/cmd/p2psip/node"
	"p2psip/overlay"
)

const lookupTimeout = 30 * time.Second

func (p *program) lookup() *cli.Command {
	return &cli.Command{
		Name: "lookup", Usage: "find a user in the overlay: where the phones are, who vouches for it, what the search took",
		ArgsUsage:   "sip:USER@DOMAIN",
		Description: "p2psip lookup sip:bob@p2psip.example",
		Flags:       []cli.Flag{dataFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			args, err := exactArgs(c, "a user, such as sip:bob@p2psip.example")
			if err != nil {
				return err
			}
			aor, err := overlay.ParseAOR(args[0])
			if err != nil {
				return &badWord{err}
			}
			data, err := p.dataDir(c)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context, lookupTimeout)
			defer cancel()
			done := p.ui.Progress("Looking for " + aor.String())
			res, err := node.Ask(ctx, data, node.Request{Do: "lookup", AOR: aor.String()})
			done()
			if c.Bool("json") && res.Found != nil {
				v := struct {
					*node.Found
					Error string `json:"error,omitempty"`
				}{res.Found, res.Error}
				if err := p.ui.JSON(v); err != nil {
					return err
				}
			}
			if !c.Bool("json") && res.Found != nil && (err == nil || errors.Is(err, overlay.ErrOffline)) {
				p.sayFound(res.Found)
			}
			return err
		},
	}
}

// badWord is a word on the command line that is no user's address: an error of usage that keeps the hint for its kind.
type badWord struct{ error }

func (e *badWord) Is(t error) bool { return t == errUsage }
func (e *badWord) Unwrap() error {
	return withHint(e.error, "a user is written like sip:bob@p2psip.example")
}

func (p *program) sayFound(f *node.Found) {
	now := p.now()
	p.ui.Say("%s\n", f.AOR)
	for _, n := range f.Nodes {
		rows := [][]string{{"node", n.Node}}
		for i, a := range n.Addrs {
			rows = append(rows, []string{first(i, "reached at"), a})
		}
		rows = append(rows,
			[]string{"signed by", fmt.Sprintf("this node, for which %s vouches until %s", n.Signer, date(n.SignerEnd))},
			[]string{"signed at", n.Issued.Local().Format(time.DateTime) + fmt.Sprintf(" (sequence %d)", n.Sequence)})
		for _, d := range n.Devices {
			state := "reachable for " + span(d.Expires.Sub(now))
			if !d.Living {
				state = "not heard of for " + span(now.Sub(d.Expires))
			}
			rows = append(rows, []string{"phone", fmt.Sprintf("%s, preference %g, %s", d.ID, d.Q, state)})
		}
		if len(n.Devices) == 0 {
			rows = append(rows, []string{"phone", "none: the user has left this node"})
		}
		p.ui.Table(rows...)
		p.ui.Say("")
	}
	hops := plural(f.Hops, "hop")
	if f.Hops == 0 {
		hops = "this node stores it"
	}
	p.ui.Say("The first record came after %s (%s), the search ended after %s.", ms(time.Duration(f.First*float64(time.Millisecond))), hops, ms(time.Duration(f.Took*float64(time.Millisecond))))
	p.ui.Say("%s asked, %d answered, %s of the record came back.", plural(f.Asked, "node"), f.Answered, copies(f.Copies))
}

func copies(n int) string {
	if n == 1 {
		return "1 copy"
	}
	return fmt.Sprintf("%d copies", n)
}
