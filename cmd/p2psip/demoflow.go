package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"p2psip/cmd/p2psip/node"
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
