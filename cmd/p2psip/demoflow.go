package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"p2psip/cmd/p2psip/node"
	"p2psip/interwork/account"
	"p2psip/interwork/flow"
	"p2psip/interwork/phone"
	"p2psip/interwork/proxy"
	"p2psip/overlay"
	"p2psip/proxypeer"
)

const (
	flowNodes  = 12
	flowDoors  = 3 // of them, proxy peers
	flowRelays = 2 // and the next ones, relay peers
	flowAlice  = 7 // index of alice's node
	flowBob    = 9 // and of bob's
	flowCalled = "sip:carol@" + demoProvider
)

// draftFlows are the sections of the draft with a call.
var draftFlows = []string{"5.1", "5.2", "5.3", "5.4"}

// parseFlows reads --flow.
func parseFlows(s string) ([]string, error) {
	switch {
	case s == "all":
		return draftFlows, nil
	case slices.Contains(draftFlows, s):
		return []string{s}, nil
	}
	return nil, withHint(usagef("there is no flow %q", s),
		"--flow 5.1 (alice calls bob, both behind relay peers), 5.2 (she calls out), 5.3 (she is called from outside), 5.4 (she is called under her public number) or all")
}

// flowDemo shows one flow of the draft: an overlay with relay peers and proxy peers, and for those flows that cross the border
// a public side that knows its name only.
type flowDemo struct {
	show demoShow
	dir  string
	log  *slog.Logger
	flow string

	authority *overlay.Authority
	nodes     []*node.Node
	doors     []netip.AddrPort // public addresses of the proxy peers, which are the first nodes
	closed    map[int]bool     // nodes that were stopped
	outside   *outside
	witness   *witness
	alice     *phone.Phone
	incoming  chan *phone.Call // alice's, in flow 5.1 bob's
	atAlice   *phone.Call
	atCarol   *phone.Call
	inside    *inside // of flow 5.1
	proven    []string
}

func newFlowDemo(show demoShow, dir, flow string, log *slog.Logger) *flowDemo {
	d := &flowDemo{show: show, dir: dir, flow: flow, log: log, closed: map[int]bool{}, incoming: make(chan *phone.Call, 4)}
	columns := flowColumns
	if flow == "5.1" {
		columns, d.inside = insideColumns, &inside{}
	}
	d.witness = &witness{ladder: newLadder(show.say, 19, columns...)}
	return d
}

func (d *flowDemo) steps() []demoAct {
	f := d.flow
	steps := []demoAct{
		{f, "world", "Starting the nodes and what is around them", d.start, false},
		{f, "register", "The phones register", d.register, false},
		{f, "relay peers", "The relay peers advertise themselves", d.relaysReady, false},
	}
	if f != "5.1" {
		steps = append(steps, demoAct{f, "proxy peers", "alice's node looks for proxy peers", d.getProxy, false})
	}
	switch f {
	case "5.1":
		steps = append(steps,
			demoAct{f, "call", "5.1  alice calls bob; both nodes show relayed addresses only", d.callBob, true},
			demoAct{f, "offers", "Looking at what they told each other", d.lookInside, false},
			demoAct{f, "audio", "They talk", d.talkInside, true},
			demoAct{f, "hang-up", "bob hangs up", d.bobHangsUp, true})
	case "5.2":
		steps = append(steps,
			demoAct{f, "call", "5.2  alice calls carol, who is outside", d.callOut, true},
			demoAct{f, "border", "Looking at what crossed the border", d.lookOut, false},
			demoAct{f, "audio", "They talk", d.talkOut, true},
			demoAct{f, "failover", "The proxy peer of the call is stopped, and carol hangs up", d.hangUpElsewhere, true})
	case "5.3":
		steps = append(steps,
			demoAct{f, "call", "5.3  carol calls sip:alice@" + demoOverlay, d.callIn, true},
			demoAct{f, "border", "Looking at what crossed the border", d.lookIn, false},
			demoAct{f, "audio", "They talk", d.talkIn, true},
			demoAct{f, "hang-up", "alice hangs up", d.aliceHangsUp, true},
			demoAct{f, "no transit", "carol tries to be carried elsewhere", d.noTransit, false})
	case "5.4":
		steps = append(steps,
			demoAct{f, "account", "5.4  alice's node registers her public number", d.registerOutside, true},
			demoAct{f, "call", "5.4  carol calls sip:alice@" + demoProvider, d.callNumber, true},
			demoAct{f, "audio", "They talk", d.talkNumber, true},
			demoAct{f, "hang-up", "alice hangs up", d.aliceHangsUp, true})
	}
	return append(steps, demoAct{f, "clean", "Checking that nothing is left", d.clean, false})
}

// run goes through the steps.
func (d *flowDemo) run(ctx context.Context) demoResult {
	defer d.close()
	return d.show.perform(ctx, flowNodes, d.witness.ladder, d.steps())
}

// runFlows shows one flow after the other, each in a world of its own, so that each begins with nodes that know no relay peer
// yet. The first that fails is the last.
func runFlows(ctx context.Context, show demoShow, dir string, flows []string, log *slog.Logger) demoResult {
	all := demoResult{OK: true, Nodes: flowNodes, Steps: []demoStep{}}
	var proven []string
	for i, f := range flows {
		if i > 0 {
			show.say("")
		}
		d := newFlowDemo(show, filepath.Join(dir, f), f, log)
		r := d.run(ctx)
		all.Steps, all.MS, all.OK = append(all.Steps, r.Steps...), all.MS+r.MS, r.OK
		proven = append(proven, d.proven...)
		if !r.OK {
			break
		}
	}
	show.sum(all, proven)
	return all
}

func (d *flowDemo) prove(format string, a ...any) {
	d.proven = append(d.proven, fmt.Sprintf(format, a...))
}

func (d *flowDemo) data(i int) string { return filepath.Join(d.dir, fmt.Sprintf("node%d", i)) }

// start makes the overlay and what is outside of it.
func (d *flowDemo) start(ctx context.Context) (_ string, err error) {
	d.authority, err = overlay.NewAuthority(overlay.DocumentOptions{ID: demoOverlay, DHT: overlay.DHTParams{
		BucketSize: demoStorers, RecordLifetime: overlay.DefaultRecordLifetime, Retention: overlay.DefaultRetention,
	}}, time.Now())
	if err != nil {
		return "", err
	}
	sockets, names, err := d.startOutside()
	if err != nil {
		return "", err
	}
	defer func() {
		for _, s := range sockets {
			if s != nil {
				s.Close()
			}
		}
	}()
	for i := range flowNodes {
		cfg := node.Config{
			DataDir: d.data(i), Listen: []string{"/ip4/127.0.0.1/tcp/0"}, SIP: "127.0.0.1:0", NoLAN: true, Logger: d.log.With("node", i),
		}
		if i > 0 {
			cfg.Bootstrap = d.nodes[0].Addrs()
		}
		user, roles := fmt.Sprintf("user%d", i), []overlay.Role(nil)
		switch {
		case i == flowAlice && d.inside != nil:
			user = "alice"
			cfg.Trace = d.inside.alice(d.witness)
			cfg.Media = d.media(0, d.witness.relays(inAlice, inRelayA))
		case i == flowAlice:
			user = "alice"
			cfg.Trace = d.witness.node
			cfg.Media = d.media(0, d.witness.relays(colAlice, colRelay))
		case i == flowBob && d.inside != nil:
			user = "bob"
			cfg.Trace = d.inside.bob(d.witness)
			cfg.Media = d.media(1, d.witness.relays(inBob, inRelayB))
		case i >= flowDoors && i < flowDoors+flowRelays:
			roles = []overlay.Role{overlay.RoleRelay}
			if cfg.Relay, err = relayRoleOf("udp:127.0.0.1:0"); err != nil {
				return "", err
			}
		case i < flowDoors && d.inside == nil:
			roles = []overlay.Role{overlay.RoleProxy}
			cfg.Trace = func(e proxy.Event) { d.witness.proxyPeer(i, e) }
			cfg.ProxyPeer = &node.ProxyPeer{
				Sockets: []proxypeer.Socket{{Transport: flow.TransportUDP, Packet: sockets[i]}}, DNS: []string{names},
			}
			sockets[i] = nil // the node closes it
		}
		if err := d.credential(i, user, roles); err != nil {
			if cfg.Relay != nil {
				cfg.Relay.Close()
			}
			return "", fmt.Errorf("the credential of node %d: %w", i, err)
		}
		n, err := node.Start(cfg)
		if err != nil {
			return "", fmt.Errorf("node %d: %w", i, err)
		}
		d.nodes = append(d.nodes, n)
	}
	for i, n := range d.nodes {
		if err := n.WaitJoined(ctx); err != nil {
			return "", fmt.Errorf("node %d: %w", i, err)
		}
	}
	if d.inside != nil {
		return fmt.Sprintf("%d nodes have joined, %d of them relay peers", flowNodes, flowRelays), nil
	}
	return fmt.Sprintf("%d nodes have joined, %d of them proxy peers and %d relay peers; outside are %s, its name server and carol", flowNodes, flowDoors, flowRelays, demoProvider), nil
}

// startOutside makes the public side, and gives the sockets of the proxy peers and the address of the name server.
func (d *flowDemo) startOutside() (sockets []net.PacketConn, names string, err error) {
	if d.inside != nil {
		return nil, "", nil
	}
	defer func() {
		if err != nil {
			for _, s := range sockets {
				if s != nil {
					s.Close()
				}
			}
		}
	}()
	for range flowDoors + 2 {
		pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			return sockets, "", fmt.Errorf("a socket for the public side: %w", err)
		}
		sockets = append(sockets, pc)
	}
	for _, s := range sockets[:flowDoors] {
		d.doors = append(d.doors, s.LocalAddr().(*net.UDPAddr).AddrPort())
	}
	names = sockets[flowDoors+1].LocalAddr().String()
	provider, nameServer := sockets[flowDoors], sockets[flowDoors+1]
	sockets[flowDoors], sockets[flowDoors+1] = nil, nil
	d.outside, err = newOutside(provider, nameServer, d.doors, d.witness, d.log.With("outside", demoProvider))
	return sockets, names, err
}

func (d *flowDemo) credential(i int, user string, roles []overlay.Role) error {
	dir := d.data(i)
	id, err := node.Install(dir, d.authority.Document(), time.Now())
	if err != nil {
		return err
	}
	aor, err := d.authority.Document().ID.AOR(user)
	if err != nil {
		return err
	}
	cred, err := d.authority.Issue(id, []overlay.AOR{aor}, roles, defaultDays*24*time.Hour, time.Now())
	if err != nil {
		return err
	}
	_, err = node.InstallCredential(dir, cred.PEM(), time.Now())
	return err
}

func (d *flowDemo) register(ctx context.Context) (_ string, err error) {
	if d.alice, err = d.phone("alice", flowAlice, aliceHz); err != nil {
		return "", err
	}
	other, said := (*phone.Phone)(nil), ""
	if d.inside != nil {
		if d.inside.phone, err = d.phone("bob", flowBob, bobHz); err != nil {
			return "", err
		}
		other, said = d.inside.phone, fmt.Sprintf("bob at node %d", flowBob)
	} else {
		other, said = d.outside.carol, "carol at "+demoProvider
	}
	for _, p := range []*phone.Phone{d.alice, other} {
		if _, err := p.Register(ctx, time.Hour); err != nil {
			return "", fmt.Errorf("%s: %w", p.AOR(), err)
		}
	}
	return fmt.Sprintf("alice is registered at node %d, %s", flowAlice, said), nil
}

// phone makes the phone of a user beside a node.
func (d *flowDemo) phone(user string, at int, hz float64) (*phone.Phone, error) {
	ring := phone.AnswerAfter(200 * time.Millisecond)
	return demoPhone(phone.Config{
		AOR: "sip:" + user + "@" + demoOverlay, Outbound: d.nodes[at].SIP().String(), ToneHz: hz, Logger: d.log.With("phone", user),
		Incoming: func(c *phone.Call) {
			ring(c)
			select {
			case d.incoming <- c:
			default:
			}
		},
	})
}

// until asks again and again until ok.
func until(ctx context.Context, ok func() bool) error {
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for !ok() {
		select {
		case <-t.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

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

// answered waits until a call is up at both ends and gives the far end.
func (d *flowDemo) answered(ctx context.Context, call *phone.Call, incoming <-chan *phone.Call) (*phone.Call, error) {
	if _, err := call.Wait(ctx, phone.Answered); err != nil {
		return nil, err
	}
	select {
	case far := <-incoming:
		_, err := far.Wait(ctx, phone.Answered)
		return far, err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
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

func (d *flowDemo) clean(ctx context.Context) (string, error) {
	if err := d.relaysEmpty(ctx); err != nil {
		return "", err
	}
	for i, n := range d.nodes {
		if d.closed[i] {
			continue
		}
		s := n.Status()
		// A proxy peer that carried an INVITE need not be the one that carries the BYE; it forgets the call by its age.
		if i >= flowDoors && len(s.Calls) > 0 || s.Counters.Panics > 0 {
			return "", fmt.Errorf("node %d: %d calls in progress, %d faults", i, len(s.Calls), s.Counters.Panics)
		}
	}
	return "no call is left, no address at a relay peer, and no node had a fault", nil
}

func (d *flowDemo) close() {
	if d.alice != nil {
		d.alice.Close()
	}
	if d.inside != nil && d.inside.phone != nil {
		d.inside.phone.Close()
	}
	if d.outside != nil {
		d.outside.close()
	}
	done := make(chan struct{}, len(d.nodes))
	for _, n := range d.nodes {
		go func() { n.Close(); done <- struct{}{} }()
	}
	for range d.nodes {
		<-done
	}
	d.witness.ladder.close()
}
