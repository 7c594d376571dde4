package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"p2psip/cmd/p2psip/node"
)

const askTimeout = 10 * time.Second

func (p *program) status() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "how the running node stands, and what is wrong",
		Description: "p2psip status\np2psip status --json | jq .problems",
		Flags:       []cli.Flag{dataFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			if _, err := exactArgs(c); err != nil {
				return err
			}
			data, err := p.dataDir(c)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context, askTimeout)
			defer cancel()
			done := p.ui.Progress("Asking the node")
			res, err := node.Ask(ctx, data, node.Request{Do: "status"})
			done()
			if err != nil {
				return err
			}
			s := res.Status
			if s == nil {
				return fmt.Errorf("the node gave no status")
			}
			if c.Bool("json") {
				if err := p.ui.JSON(s); err != nil {
					return err
				}
			} else {
				p.sayStatus(s)
			}
			if len(s.Problems) > 0 {
				return &silentError{exitUnwell}
			}
			return nil
		},
	}
}

func (p *program) sayStatus(s *node.Status) {
	now := p.now()
	rows := [][]string{{"node", s.Node}, {"overlay", fmt.Sprintf("%s (fingerprint %s)", s.Overlay.ID, s.Overlay.Fingerprint)}}
	for i, u := range s.Users {
		rows = append(rows, []string{first(i, "speaks for"), u})
	}
	for i, r := range s.Roles {
		rows = append(rows, []string{first(i, "may act as"), r})
	}
	rows = append(rows, []string{"credential until", validUntil(s.Expires, now)},
		[]string{"running for", span(now.Sub(s.Started))})
	for i, a := range s.SIP {
		rows = append(rows, []string{first(i, "phones register at"), a.Transport + " " + a.Addr})
	}
	for i, a := range s.Addrs {
		rows = append(rows, []string{first(i, "other nodes reach it at"), a})
	}
	for i, a := range s.Through {
		rows = append(rows, []string{first(i, "and through others at"), a})
	}
	joined := "yes"
	switch {
	case !s.Joined:
		joined = "no"
	case s.Table == 0:
		joined = "this node knows of no other one yet"
	}
	rows = append(rows, []string{"joined", joined},
		[]string{"neighbours", fmt.Sprintf("%d (%d connected)", s.Table, s.Links)},
		[]string{"stores for others", plural(s.Stored, "record")})
	rows = append(rows, mediaRows(s.Media, s.Relays)...)
	rows = append(rows, borderRows(s.Border)...)
	rows = append(rows, relayRows(s.Relay)...)
	p.ui.Table(rows...)

	p.ui.Say("\nPhones:")
	rows = nil
	for _, u := range s.Phones.Users {
		state := "others find it"
		if !u.Published {
			state = u.Why
		}
		if len(u.Phones) == 0 {
			rows = append(rows, []string{u.AOR, "no phone", "", "", state})
		}
		for _, ph := range u.Phones {
			rows = append(rows, []string{u.AOR, ph.Contact, "at " + ph.Reach, "for " + span(ph.ExpiresIn), state})
		}
	}
	if len(rows) == 0 {
		rows = append(rows, []string{"none is registered"})
	}
	p.ui.Table(rows...)

	if len(s.Accounts) > 0 {
		p.ui.Say("\nAccounts with providers:")
		rows = nil
		for _, a := range s.Accounts {
			rows = append(rows, []string{a.AOR, "rings " + a.User, accountState(&a, now)})
		}
		p.ui.Table(rows...)
	}

	p.ui.Say("\nCalls:")
	rows = nil
	for _, c := range s.Calls {
		rows = append(rows, []string{c.From, "with " + c.To, "for " + span(now.Sub(c.Since)), soundOf(c.Media)})
	}
	if len(rows) == 0 {
		rows = append(rows, []string{"none in progress"})
	}
	p.ui.Table(rows...)

	if len(s.Problems) == 0 {
		p.ui.Say("\nNothing is wrong.")
		return
	}
	p.ui.Say("\nWhat is wrong:")
	for _, pr := range s.Problems {
		p.ui.Say("  %s\n    hint: %s", pr.What, pr.Hint)
	}
}

// mediaRows tells how the sound of calls goes.
func mediaRows(m *node.Media, relays []node.RelayPeer) [][]string {
	if m == nil {
		return [][]string{{"sound of calls", "does not pass through this node"}}
	}
	rows := [][]string{
		{"sound of calls", fmt.Sprintf("%d of %s, %d of %s of ports used", m.Sessions, plural(m.MaxSessions, "call"), m.PortsUsed, plural(m.PortsTotal, "pair"))},
	}
	return append(rows, relayPeerRows(relays)...)
}

// soundOf tells how the sound of one call goes.
func soundOf(m *node.CallMedia) string {
	if m == nil {
		return "its sound does not pass through this node"
	}
	path := map[string]string{"": "no sound yet", "host": "straight", "reflexive": "straight, through a NAT", "relayed": "relayed"}[m.Path]
	if len(m.Relays) > 0 {
		path += " by " + strings.Join(m.Relays, ", ")
	}
	secret := "encrypted " + m.Encrypted
	switch m.Encrypted {
	case "":
		secret = "no keys yet"
	case "no":
		secret = "not encrypted"
	}
	if m.Trouble != "" {
		return path + ", " + secret + "; " + m.Trouble
	}
	return path + ", " + secret
}

// borderRows tells how calls leave the overlay and come into it.
func borderRows(b node.Border) (rows [][]string) {
	if !b.Role {
		for i, k := range b.Known {
			rows = append(rows, []string{first(i, "calls leave through"), k})
		}
		return rows
	}
	for i, u := range b.Services {
		rows = append(rows, []string{first(i, "proxy peer at"), u})
	}
	return append(rows,
		[]string{"advertised at", plural(b.Adverts, "node")},
		[]string{"found from outside", foundOutside(b.Binding)},
		[]string{"from outside", fmt.Sprintf("%s, %d for users here, %d limited, %d of scanners", plural(int(b.Requests), "request"), b.Entered, b.Limited, b.Scanners)},
		[]string{"to outside", fmt.Sprintf("%s, %d without a way, %d places failed, %s", plural(int(b.Left), "request"), b.Refused, b.Failed, plural(b.Conns, "connection"))})
}

// foundOutside says in a word whether calls from outside find a proxy peer.
func foundOutside(b *node.Binding) string {
	switch {
	case b == nil:
		return "not asked"
	case b.Bound:
		return "yes: " + b.Why
	case !b.Known:
		return "not known"
	}
	return "no"
}
