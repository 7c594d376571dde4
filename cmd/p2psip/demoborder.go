package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"p2psip/cmd/p2psip/node"
	"p2psip/interwork/account"
	"p2psip/interwork/phone"
)

// What is particular to the flows across the border, 5.2 to 5.4.

// getProxy is "Get Proxy" and its response of the draft's flows; a node does it before somebody wants to call.
func (d *flowDemo) getProxy(ctx context.Context) (string, error) {
	n := d.nodes[flowAlice]
	if err := until(ctx, func() bool { return len(n.Status().Border.Known) > 0 }); err != nil {
		return "", fmt.Errorf("alice's node has found no proxy peer: %w", err)
	}
	known := n.Status().Border.Known
	for _, k := range known {
		if !slices.ContainsFunc(d.nodes[:flowDoors], func(n *node.Node) bool { return n.ID().String() == k }) {
			return "", fmt.Errorf("%s is said to be a proxy peer and is none", k)
		}
	}
	return fmt.Sprintf("Get Proxy and its response (5.2: steps 5 and 6; 5.4: 1 and 2): the overlay names %s", plural(len(known), "proxy peer")), nil
}

func (d *flowDemo) callOut(ctx context.Context) (string, error) {
	d.witness.expect(
		draftStep{"(1)", colAlice, colOverlay, "Get Relay"},
		draftStep{"(2)", colOverlay, colAlice, "Response"},
		draftStep{"(3)", colAlice, colRelay, "Init Relay"},
		draftStep{"(4)", colRelay, colAlice, "Ok"},
		draftStep{"(7)", colAlice, colProxy, "INVITE"},
		draftStep{"(8)", colProxy, colProvider, "INVITE"},
		draftStep{"(9)", colProvider, colCarol, "INVITE"})
	var err error
	if d.atAlice, err = d.alice.Call(ctx, flowCalled); err != nil {
		return "", err
	}
	if d.atCarol, err = d.answered(ctx, d.atAlice, d.outside.incoming); err != nil {
		return "", err
	}
	for _, q := range []string{"NAPTR " + demoProvider + ".", "SRV _sip._udp." + demoProvider + "."} {
		if !d.outside.asked.has(q) {
			return "", fmt.Errorf("the name server was not asked for %s", q)
		}
	}
	d.prove("5.2: alice's call went through a proxy peer that found carol's provider by NAPTR, SRV and A records (RFC 3263)")
	return "carol's phone rang and was answered", d.witness.missing()
}

var (
	recordRoutes = regexp.MustCompile(`(?mi)^Record-Route:.*$`)
	contactLine  = regexp.MustCompile(`(?mi)^Contact:.*$`)
)

// crossed looks at a message that has left the overlay: the route is the overlay's, the Contact a GRUU.
func (d *flowDemo) crossed(text string) error {
	routes, contacts := strings.Join(recordRoutes.FindAllString(text, -1), " "), contactLine.FindAllString(text, -1)
	if !strings.Contains(routes, "<sip:"+demoOverlay+";lr>") {
		return fmt.Errorf("the route recorded is not sip:%s: %q", demoOverlay, routes)
	}
	if len(contacts) != 1 || !strings.Contains(contacts[0], "sip:alice@"+demoOverlay+";gr=") {
		return fmt.Errorf("the Contact is no GRUU of alice: %q", contacts)
	}
	for _, door := range d.doors {
		if strings.Contains(routes+contacts[0], door.String()) {
			return fmt.Errorf("the address of a proxy peer, %s, is in the route or the Contact", door)
		}
	}
	if strings.Contains(contacts[0], d.alice.Contact()) {
		return errors.New("the address of alice's phone is in the Contact")
	}
	return nil
}

func (d *flowDemo) lookOut(context.Context) (string, error) {
	m, ok := d.witness.message(colProxy, colProvider, "INVITE")
	if !ok {
		return "", errors.New("the INVITE was not seen")
	}
	if err := errors.Join(d.crossed(m), d.relayed(m)); err != nil {
		return "", err
	}
	d.prove("5.2: before the INVITE left, alice's node had an address at a relay peer, and carol was told no other one for the sound")
	d.prove("5.2: the route that was recorded is <sip:%s;lr>, the Contact alice's GRUU; neither shows a proxy peer or a phone", demoOverlay)
	return "Record-Route names the overlay, Contact is alice's GRUU, sound goes to her relayed address", nil
}

// hangUpElsewhere stops the proxy peer that carried the INVITE: the BYE has to come through another one.
func (d *flowDemo) hangUpElsewhere(ctx context.Context) (string, error) {
	door := d.witness.lastDoor()
	d.closed[door] = true
	if err := d.nodes[door].Close(); err != nil {
		return "", err
	}
	d.witness.expect(draftStep{"", colProxy, colAlice, "BYE"})
	if err := d.atCarol.Hangup(ctx); err != nil {
		return "", err
	}
	if _, err := d.atAlice.Wait(ctx, phone.Ended); err != nil {
		return "", fmt.Errorf("alice: %w", err)
	}
	d.prove("5.2: with the proxy peer of the call gone, carol's BYE reached alice through another one")
	return fmt.Sprintf("proxy peer %d has gone, and alice's phone knows that carol hung up", door), d.witness.missing()
}

func (d *flowDemo) callIn(ctx context.Context) (string, error) {
	d.witness.expect(
		draftStep{"(1)", colProvider, colProxy, "INVITE"},
		draftStep{"(2)", colProxy, colOverlay, "INVITE"},
		draftStep{"(3)", colOverlay, colAlice, "INVITE"},
		draftStep{"(4)", colAlice, colOverlay, "Get Relay"},
		draftStep{"(5)", colOverlay, colAlice, "Response"},
		draftStep{"(6)", colAlice, colRelay, "Init Relay"},
		draftStep{"(7)", colRelay, colAlice, "Ok"},
		draftStep{"", colAlice, colProxy, "200 OK"})
	return d.callAlice(ctx, "sip:alice@"+demoOverlay, "5.3: carol, who knows nothing but alice's address, reached her through a proxy peer that the DNS names")
}

// callAlice has carol call.
func (d *flowDemo) callAlice(ctx context.Context, to, proof string) (string, error) {
	var err error
	if d.atCarol, err = d.outside.carol.Call(ctx, to); err != nil {
		return "", err
	}
	if d.atAlice, err = d.answered(ctx, d.atCarol, d.incoming); err != nil {
		return "", err
	}
	d.prove("%s", proof)
	return "alice's phone rang and was answered", d.witness.missing()
}

func (d *flowDemo) lookIn(context.Context) (string, error) {
	m, ok := d.witness.message(colProxy, colProvider, "200 OK")
	if !ok {
		return "", errors.New("the 200 was not seen")
	}
	if err := errors.Join(d.crossed(m), d.relayed(m)); err != nil {
		return "", err
	}
	d.prove("5.3: before alice's phone rang, her node had an address at a relay peer, and carol was told no other one for the sound")
	d.prove("5.3: the answer's Contact is alice's GRUU, its route the overlay")
	return "Record-Route names the overlay, Contact is alice's GRUU, sound goes to her relayed address", nil
}

func (d *flowDemo) aliceHangsUp(ctx context.Context) (string, error) {
	d.witness.expect(draftStep{"", colAlice, colProxy, "BYE"}, draftStep{"", colProxy, colProvider, "BYE"})
	if err := d.atAlice.Hangup(ctx); err != nil {
		return "", err
	}
	if _, err := d.atCarol.Wait(ctx, phone.Ended); err != nil {
		return "", fmt.Errorf("carol: %w", err)
	}
	return "alice hung up, and carol's phone knows", d.witness.missing()
}

// noTransit has carol's phone use a proxy peer to reach somebody who is not in the overlay.
func (d *flowDemo) noTransit(ctx context.Context) (string, error) {
	door := slices.IndexFunc(d.doors, func(a netip.AddrPort) bool { return !d.closed[slices.Index(d.doors, a)] })
	mallory, err := demoPhone(phone.Config{
		AOR: "sip:mallory@elsewhere.example", Outbound: d.doors[door].String(), Logger: d.log.With("phone", "mallory"),
	})
	if err != nil {
		return "", err
	}
	defer mallory.Close()
	c, err := mallory.Call(ctx, flowCalled)
	if err != nil {
		return "", err
	}
	st, err := c.Wait(ctx, phone.Failed)
	if err != nil || st.Status != 403 {
		return "", fmt.Errorf("a stranger's call through a proxy peer to another stranger gave %v (%v), not 403", st, err)
	}
	d.prove("5.3: a proxy peer carries strangers to users of the overlay only; to others it answers 403")
	return "a call from a stranger to a stranger was refused with 403", nil
}

func (d *flowDemo) registerOutside(ctx context.Context) (string, error) {
	d.witness.expect(
		draftStep{"(3)", colAlice, colProxy, "REGISTER"},
		draftStep{"(4)", colProxy, colProvider, "REGISTER"})
	store, err := account.Open(d.data(flowAlice), demoOverlay)
	if err != nil {
		return "", err
	}
	public := "sip:alice@" + demoProvider
	if err := store.Add(account.Account{AOR: public, User: "alice", Password: "alice's password", Added: time.Now()}); err != nil {
		return "", err
	}
	registered := func() bool {
		for _, a := range d.nodes[flowAlice].Status().Accounts {
			if a.AOR == public && a.State == account.Registered {
				return true
			}
		}
		return false
	}
	if err := until(ctx, registered); err != nil {
		return "", fmt.Errorf("the account was not registered: %w", err)
	}
	m, ok := d.witness.message(colProxy, colProvider, "REGISTER")
	if !ok || !strings.Contains(strings.Join(contactLine.FindAllString(m, -1), " "), "sip:alice@"+demoOverlay) {
		return "", errors.New("the provider was not given alice's overlay URL as Contact")
	}
	d.prove("5.4: alice's node registered sip:alice@%s as the contact of %s, and answered the provider's challenge itself", demoOverlay, public)
	return "the provider has alice's overlay URL as her contact", d.witness.missing()
}

func (d *flowDemo) callNumber(ctx context.Context) (string, error) {
	d.witness.expect(
		draftStep{"(5)", colCarol, colProvider, "INVITE"},
		draftStep{"(6)", colProvider, colProxy, "INVITE"},
		draftStep{"(7)", colProxy, colOverlay, "INVITE"},
		draftStep{"(8)", colOverlay, colAlice, "INVITE"},
		draftStep{"(9)", colAlice, colOverlay, "Get Relay"},
		draftStep{"(10)", colOverlay, colAlice, "Response"},
		draftStep{"(11)", colAlice, colRelay, "Init Relay"},
		draftStep{"(12)", colRelay, colAlice, "Ok"},
		draftStep{"", colAlice, colProxy, "200 OK"})
	return d.callAlice(ctx, "sip:alice@"+demoProvider, "5.4: a call to alice's public number rang her phone in the overlay")
}
