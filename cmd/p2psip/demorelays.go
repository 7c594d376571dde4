package main

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"

	"p2psip/cmd/p2psip/node"
	"p2psip/interwork/phone"
	"p2psip/overlay"
	"p2psip/relaypeer/datapath"
)

// Ports towards the phones of a demonstration's nodes. There are few calls, but ports may be in use.
const (
	demoPorts    = 200
	demoPortBase = 21000
)

// relayRoleOf makes a relay peer for this machine: nobody has to confirm that it can be reached, and it sends to loopback
// only.
func relayRoleOf(sockets ...string) (*node.RelayRole, error) {
	loop, err := datapath.NewLoop(datapath.LoopOptions{})
	if err != nil {
		return nil, fmt.Errorf("a relay peer: %w", err)
	}
	r := &node.RelayRole{Loop: loop, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, AssumeReachable: true}
	for _, at := range sockets {
		s, err := node.OpenRelay(loop, at, nil)
		if err != nil {
			r.Close()
			return nil, err
		}
		r.Sockets = append(r.Sockets, s)
	}
	return r, nil
}

// media has a node move the sound of its phone, show nobody an address of its own, and look for relay peers when a call comes,
// as the draft draws it. In flow 5.1 each side uses one of them only, its own, so that the sound has to cross both.
func (d *flowDemo) media(side int, trace func(node.RelayEvent)) *node.MediaConfig {
	lo := uint16(demoPortBase + side*demoPorts)
	m := &node.MediaConfig{PortMin: lo, PortMax: lo + demoPorts - 1, RelayOnly: true, Late: true, RelayTrace: trace}
	if d.inside != nil {
		m.RelayPeers = []overlay.NodeID{d.relay(side).ID()}
	}
	return m
}

// relay gives one of the relay peers.
func (d *flowDemo) relay(i int) *node.Node { return d.nodes[flowDoors+i] }

// relaysReady waits until the overlay knows of the relay peers, and names them to the nodes of the call.
func (d *flowDemo) relaysReady(ctx context.Context) (string, error) {
	for i := range flowRelays {
		if err := until(ctx, func() bool { return d.relay(i).Status().Relay.Adverts > 0 }); err != nil {
			return "", fmt.Errorf("relay peer %d is not advertised (%s): %w", i+1, d.relay(i).Status().Relay.Trouble, err)
		}
	}
	who := []int{flowAlice}
	if d.inside != nil {
		who = append(who, flowBob)
	}
	for _, i := range who {
		named := func() bool {
			found, _ := d.nodes[i].FindRelays(ctx)
			return len(found) > 0
		}
		if err := until(ctx, named); err != nil {
			return "", fmt.Errorf("the overlay names no relay peer to node %d: %w", i, err)
		}
	}
	return fmt.Sprintf("%s advertised under turn:%s", plural(flowRelays, "relay peer"), demoOverlay), nil
}

// relaysEmpty waits until the relay peers have nothing left of a call.
func (d *flowDemo) relaysEmpty(ctx context.Context) error {
	for i := range flowRelays {
		if err := until(ctx, func() bool { return d.relay(i).Status().Relay.Now == 0 }); err != nil {
			return fmt.Errorf("relay peer %d has %s left: %w", i+1, plural(d.relay(i).Status().Relay.Now, "address"), err)
		}
	}
	return nil
}

// relayedBytes gives what each relay peer has relayed so far.
func (d *flowDemo) relayedBytes() (out [flowRelays]int64) {
	for i := range out {
		out[i] = d.relay(i).Status().Relay.Month
	}
	return out
}

// soundBytes is the least that a relay peer has to have carried while so many packets of sound arrived: G.711 of 20 ms behind an
// RTP header. A few had passed it already when the counting began.
func soundBytes(packets int) int64 { return int64(packets-demoFlight) * (160 + 12) }

// demoFlight is how many packets may be on their way through this machine at one moment.
const demoFlight = 6

var (
	mediaLine      = regexp.MustCompile(`(?m)^m=audio ([0-9]+) (\S+)`)
	connectionLine = regexp.MustCompile(`(?m)^c=IN IP[46] (\S+)`)
)

// soundAt gives where a message's session description wants sound, and over what.
func soundAt(text string) (at netip.AddrPort, proto string, err error) {
	m, c := mediaLine.FindStringSubmatch(text), connectionLine.FindStringSubmatch(text)
	if m == nil || c == nil {
		return at, "", fmt.Errorf("no audio is described in %q", text)
	}
	port, err := strconv.ParseUint(m[1], 10, 16)
	if err != nil {
		return at, "", err
	}
	ip, err := netip.ParseAddr(c[1])
	if err != nil {
		return at, "", err
	}
	return netip.AddrPortFrom(ip, uint16(port)), m[2], nil
}

// relayed looks at a description that has left the overlay: the sound is wanted at the address that the relay peer has given,
// as plain RTP, which every phone understands.
func (d *flowDemo) relayed(text string) error {
	at, proto, err := soundAt(text)
	if err != nil {
		return err
	}
	for _, given := range d.witness.texts(colRelay, colAlice, "Ok") {
		if at.String() == given {
			if proto != "RTP/AVP" {
				return fmt.Errorf("the sound is wanted over %s", proto)
			}
			return nil
		}
	}
	return fmt.Errorf("the sound is wanted at %s, which the relay peer has not given", at)
}

// talkOut, talkIn and talkNumber are the talk of each flow, with the number of its last step.
func (d *flowDemo) talkOut(ctx context.Context) (string, error)    { return d.talk(ctx, "(11)") }
func (d *flowDemo) talkIn(ctx context.Context) (string, error)     { return d.talk(ctx, "(9)") }
func (d *flowDemo) talkNumber(ctx context.Context) (string, error) { return d.talk(ctx, "(14)") }

// talk waits until alice and carol hear each other, and looks whether the relay peer has carried all of it.
func (d *flowDemo) talk(ctx context.Context, number string) (string, error) {
	before := d.relayedBytes()
	alice, carol, err := heardEach(ctx, d.atAlice, d.atCarol)
	if err != nil {
		return "", err
	}
	after := d.relayedBytes()
	got := int64(0)
	for i := range after {
		got += after[i] - before[i]
	}
	if want := soundBytes(alice + carol); got < want {
		return "", fmt.Errorf("the relay peers have carried %d octets of %d or more", got, want)
	}
	if path := d.pathOf(flowAlice); path != "relayed" {
		return "", fmt.Errorf("alice's node says that the sound goes %q", path)
	}
	d.witness.ladder.both(colAlice, colRelay, number+" Media")
	d.witness.ladder.both(colRelay, colCarol, fmt.Sprintf("%s Media, %d bytes relayed", number, got))
	d.prove("%s: the sound crossed alice's relay peer, which counted %d bytes for %d packets; carol's phone speaks plain RTP and no ICE", d.flow, got, alice+carol)
	return "each hears the other's tone", nil
}

// heardEach waits until two ends of a call hear the other's tone, and gives the packets that came meanwhile.
func heardEach(ctx context.Context, alice, other *phone.Call) (atAlice, atOther int, err error) {
	a, o := alice.Media().Received, other.Media().Received
	heardA, err := alice.WaitHeard(ctx, bobHz, a+demoPackets)
	if err != nil {
		return 0, 0, fmt.Errorf("alice: %w", err)
	}
	heardO, err := other.WaitHeard(ctx, aliceHz, o+demoPackets)
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w", alice.Peer(), err)
	}
	return heardA.Received - a, heardO.Received - o, nil
}

// pathOf gives how the sound of a node's only call leaves it.
func (d *flowDemo) pathOf(i int) string {
	calls := d.nodes[i].Status().Calls
	if len(calls) != 1 || calls[0].Media == nil {
		return ""
	}
	return calls[0].Media.Path
}
