package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"p2psip/cmd/p2psip/node"
	"p2psip/interwork/phone"
	"p2psip/interwork/proxy"
	"p2psip/overlay"
)

const (
	demoOverlay = "p2psip.example"
	aliceHz     = 440
	bobHz       = 660
	// demoStorers is how many nodes keep a record. The usual 20 would have every node of this small overlay keep every
	// record, and there would be nothing to look up.
	demoStorers = 4
	demoPackets = 50 // of audio that each phone has to hear: one second
)

// demonstration is one run of `p2psip demo`. What its nodes are made with is what `p2psip node` makes one with.
type demonstration struct {
	show   demoShow
	dir    string
	count  int
	log    *slog.Logger
	ladder *ladder

	authority  *overlay.Authority
	nodes      []*node.Node
	a, b       int // indices of the nodes beside alice and bob
	alice, bob *phone.Phone
	incoming   chan *phone.Call // bob's calls
	call       *phone.Call      // the one alice made
	answered   *phone.Call      // the same at bob's
	proven     []string
}

func newDemonstration(show demoShow, dir string, count int, log *slog.Logger) *demonstration {
	d := &demonstration{show: show, dir: dir, count: count, log: log, a: 0, b: count - 1, incoming: make(chan *phone.Call, 4)}
	if count > 8 {
		d.a, d.b = 3, 8
	}
	d.ladder = newLadder(show.say, 20, "alice", d.name(d.a), d.name(d.b), "bob")
	return d
}

func (d *demonstration) name(i int) string { return fmt.Sprintf("node %d", i) }

func (p *program) demoLogger(verbose bool) *slog.Logger {
	if !verbose {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(p.ui.LogWriter(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// run goes through the steps.
func (d *demonstration) run(ctx context.Context) demoResult {
	defer d.close()
	steps := []demoAct{
		{"", "overlay", "Making the overlay", d.makeOverlay, false},
		{"", "nodes", "Starting the nodes", d.startNodes, false},
		{"", "join", "The nodes look for each other", d.join, false},
		{"", "register", "The phones register", d.register, true},
		{"", "lookup", "Looking bob up", d.lookup, false},
		{"", "call", "alice calls bob", d.dial, true},
		{"", "audio", "They talk", d.talk, true},
		{"", "hang-up", "bob hangs up", d.hangUp, true},
		{"", "unknown user", "alice calls somebody who does not exist", d.callNobody, true},
		{"", "offline user", "bob goes, alice calls once more", d.callAbsent, true},
		{"", "clean", "Checking that nothing is left", d.clean, false},
	}
	r := d.show.perform(ctx, d.count, d.ladder, steps)
	d.show.sum(r, d.proven)
	return r
}

// The nodes' columns in the ladder; the phones are outside of them.
const (
	left  = 1
	right = 2
)

// saw takes a message from the trace of the node in column own. What passes between the two nodes is seen by both; the
// sender's sight counts.
func (d *demonstration) saw(own int, e proxy.Event) {
	outer, other := 0, right
	if own == right {
		outer, other = 3, left
	}
	from, to := own, outer
	switch {
	case e.Flow.Edge() && !e.Out:
		from, to = outer, own
	case e.Flow.Edge():
	case e.Out:
		to = other
	default:
		return // the other node has shown it
	}
	d.ladder.add(e.Time, from, to, label(e.Message))
}

func (d *demonstration) prove(format string, a ...any) {
	d.proven = append(d.proven, fmt.Sprintf(format, a...))
}

func (d *demonstration) makeOverlay(context.Context) (string, error) {
	var err error
	d.authority, err = overlay.NewAuthority(overlay.DocumentOptions{ID: demoOverlay, DHT: overlay.DHTParams{
		BucketSize: demoStorers, RecordLifetime: overlay.DefaultRecordLifetime, Retention: overlay.DefaultRetention,
	}}, time.Now())
	if err != nil {
		return "", err
	}
	for i := range d.count {
		if err := d.credential(i); err != nil {
			return "", fmt.Errorf("the credential of %s: %w", d.name(i), err)
		}
	}
	return fmt.Sprintf("the overlay %s is made, with %s", demoOverlay, plural(d.count, "member credential")), nil
}

// credential sets node i's data directory up as `p2psip overlay issue --data` does.
func (d *demonstration) credential(i int) error {
	dir := d.data(i)
	id, err := node.Install(dir, d.authority.Document(), time.Now())
	if err != nil {
		return err
	}
	user := fmt.Sprintf("user%d", i)
	switch i {
	case d.a:
		user = "alice"
	case d.b:
		user = "bob"
	}
	aor, err := d.authority.Document().ID.AOR(user)
	if err != nil {
		return err
	}
	cred, err := d.authority.Issue(id, []overlay.AOR{aor}, nil, defaultDays*24*time.Hour, time.Now())
	if err != nil {
		return err
	}
	_, err = node.InstallCredential(dir, cred.PEM(), time.Now())
	return err
}

func (d *demonstration) data(i int) string { return filepath.Join(d.dir, fmt.Sprintf("node%d", i)) }

func (d *demonstration) startNodes(ctx context.Context) (string, error) {
	for i := range d.count {
		cfg := node.Config{
			DataDir: d.data(i), Listen: []string{"/ip4/127.0.0.1/tcp/0"}, SIP: "127.0.0.1:0", NoLAN: true,
			Logger: d.log.With("node", i),
		}
		if i > 0 {
			cfg.Bootstrap = d.nodes[0].Addrs()
		}
		switch i {
		case d.a:
			cfg.Trace = func(e proxy.Event) { d.saw(left, e) }
			cfg.Media = &node.MediaConfig{PortMin: demoPortBase, PortMax: demoPortBase + demoPorts - 1}
		case d.b:
			cfg.Trace = func(e proxy.Event) { d.saw(right, e) }
			cfg.Media = &node.MediaConfig{PortMin: demoPortBase + demoPorts, PortMax: demoPortBase + 2*demoPorts - 1}
		}
		n, err := node.Start(cfg)
		if err != nil {
			return "", fmt.Errorf("%s: %w", d.name(i), err)
		}
		d.nodes = append(d.nodes, n)
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
	}
	return fmt.Sprintf("%d nodes run; all but %s know one address, that of %s", d.count, d.name(0), d.name(0)), nil
}

func (d *demonstration) join(ctx context.Context) (string, error) {
	fewest := d.count
	for i, n := range d.nodes {
		if err := n.WaitJoined(ctx); err != nil {
			return "", fmt.Errorf("%s: %w", d.name(i), err)
		}
		if i > 0 {
			fewest = min(fewest, n.Status().Table)
		}
	}
	return fmt.Sprintf("every node has joined and knows %s or more by now", plural(fewest, "other")), nil
}

func (d *demonstration) register(ctx context.Context) (string, error) {
	var err error
	if d.alice, err = d.phone("alice", d.nodes[d.a], aliceHz, nil); err != nil {
		return "", err
	}
	ring := phone.AnswerAfter(200 * time.Millisecond)
	if d.bob, err = d.phone("bob", d.nodes[d.b], bobHz, func(c *phone.Call) {
		ring(c)
		select {
		case d.incoming <- c:
		default:
		}
	}); err != nil {
		return "", err
	}
	for _, ph := range []*phone.Phone{d.alice, d.bob} {
		if _, err := ph.Register(ctx, time.Hour); err != nil {
			return "", fmt.Errorf("%s: %w", ph.AOR(), err)
		}
	}
	p := d.nodes[d.b].Status().Records
	if len(p) != 1 || p[0].Stored < 2 {
		return "", fmt.Errorf("bob's record is stored nowhere else: %+v", p)
	}
	d.prove("a 200 to a REGISTER means that a quorum stores the record: %d of %d nodes had confirmed bob's", p[0].Stored, p[0].Wanted)
	return fmt.Sprintf("alice is registered at %s, bob at %s", d.name(d.a), d.name(d.b)), nil
}

func (d *demonstration) phone(user string, n *node.Node, hz float64, incoming func(*phone.Call)) (*phone.Phone, error) {
	pc, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("a socket for %s's phone: %w", user, err)
	}
	ph, err := phone.New(phone.Config{
		AOR: "sip:" + user + "@" + demoOverlay, Outbound: n.SIP().String(), Local: pc, ToneHz: hz, Incoming: incoming,
		Logger: d.log.With("phone", user),
	})
	if err != nil {
		pc.Close()
	}
	return ph, err
}

func (d *demonstration) lookup(ctx context.Context) (string, error) {
	aor, err := overlay.ParseAOR("sip:bob@" + demoOverlay)
	if err != nil {
		return "", err
	}
	f, err := d.nodes[d.a].Lookup(ctx, aor)
	if err != nil {
		return "", err
	}
	if len(f.Nodes) != 1 || f.Nodes[0].Node != d.nodes[d.b].ID().String() || len(f.Nodes[0].Devices) != 1 {
		return "", fmt.Errorf("the record does not lead to bob's phone at %s: %+v", d.name(d.b), f.Nodes)
	}
	from := plural(f.Hops, "hop")
	if f.Hops == 0 {
		from = "it stores a copy itself"
	}
	d.prove("%s found bob's record through the overlay in %s (%s; of %s asked, %d had answered), signed by bob's node, for which %s vouches",
		d.name(d.a), ms(time.Duration(f.First*float64(time.Millisecond))), from, plural(f.Asked, "node"), f.Answered, f.Nodes[0].Signer)
	return fmt.Sprintf("%s finds bob: first record after %s, %s; of %s asked, %d had answered by the end, %s", d.name(d.a),
		ms(time.Duration(f.First*float64(time.Millisecond))), from, plural(f.Asked, "node"), f.Answered, copies(f.Copies)), nil
}

func (d *demonstration) dial(ctx context.Context) (string, error) {
	began := time.Now()
	var err error
	if d.call, err = d.alice.Call(ctx, "sip:bob@"+demoOverlay); err != nil {
		return "", err
	}
	if _, err := d.call.Wait(ctx, phone.Ringing); err != nil {
		return "", err
	}
	rang := time.Since(began)
	if _, err := d.call.Wait(ctx, phone.Answered); err != nil {
		return "", err
	}
	select {
	case d.answered = <-d.incoming:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	if _, err := d.answered.Wait(ctx, phone.Answered); err != nil {
		return "", fmt.Errorf("bob: %w", err)
	}
	if a, b := len(d.nodes[d.a].Status().Calls), len(d.nodes[d.b].Status().Calls); a != 1 || b != 1 {
		return "", fmt.Errorf("the nodes count %d and %d calls in progress instead of 1 and 1", a, b)
	}
	d.prove("two plain SIP phones were connected across %s and %s; bob's rang %s after alice dialled", d.name(d.a), d.name(d.b), ms(rang))
	return fmt.Sprintf("bob's phone rang after %s and was answered", ms(rang)), nil
}

func (d *demonstration) talk(ctx context.Context) (string, error) {
	atAlice, err := d.call.WaitHeard(ctx, bobHz, demoPackets)
	if err != nil {
		return "", fmt.Errorf("alice: %w", err)
	}
	atBob, err := d.answered.WaitHeard(ctx, aliceHz, demoPackets)
	if err != nil {
		return "", fmt.Errorf("bob: %w", err)
	}
	for _, i := range []int{d.a, d.b} {
		calls := d.nodes[i].Status().Calls
		if len(calls) != 1 || calls[0].Media == nil || calls[0].Media.Encrypted != "node to node" {
			return "", fmt.Errorf("%s does not say that the audio is encrypted: %+v", d.name(i), calls)
		}
	}
	d.ladder.audio(fmt.Sprintf("audio, encrypted from node to node: %d and %d packets", atBob.Received, atAlice.Received))
	d.prove("the audio was encrypted between the two nodes (DTLS-SRTP), though neither phone knows of that")
	d.prove("audio went both ways: bob heard alice's %d Hz (%.0f), alice bob's %d Hz (%.0f); %d of %d packets were lost",
		aliceHz, atBob.Heard.Hz, bobHz, atAlice.Heard.Hz, atAlice.Lost+atBob.Lost, atAlice.Received+atBob.Received)
	return "each hears the other's tone", nil
}

func (d *demonstration) hangUp(ctx context.Context) (string, error) {
	if err := d.answered.Hangup(ctx); err != nil {
		return "", err
	}
	if _, err := d.call.Wait(ctx, phone.Ended); err != nil {
		return "", fmt.Errorf("alice: %w", err)
	}
	d.prove("bob's BYE found its way back to alice")
	return "bob hung up, and alice's phone knows", nil
}

// refused calls somebody and wants it to fail with a status.
func (d *demonstration) refused(ctx context.Context, to string, status int) error {
	c, err := d.alice.Call(ctx, to)
	if err != nil {
		return err
	}
	_, err = c.Wait(ctx, phone.Ringing)
	var s *phone.StatusError
	if !errors.As(err, &s) || s.Status != status {
		return fmt.Errorf("the call to %s was not refused with %d: %v", to, status, err)
	}
	return nil
}

func (d *demonstration) callNobody(ctx context.Context) (string, error) {
	if err := d.refused(ctx, "sip:nobody@"+demoOverlay, 404); err != nil {
		return "", err
	}
	d.prove("a user who does not exist gives 404")
	return "alice is told that there is no such user", nil
}

func (d *demonstration) callAbsent(ctx context.Context) (string, error) {
	if err := d.bob.Unregister(ctx); err != nil {
		return "", fmt.Errorf("bob's phone leaves: %w", err)
	}
	if err := d.refused(ctx, "sip:bob@"+demoOverlay, 480); err != nil {
		return "", err
	}
	d.prove("a user whose phone has left gives 480")
	return "bob's phone has left, and alice is told so", nil
}

func (d *demonstration) clean(context.Context) (string, error) {
	for i, n := range d.nodes {
		s := n.Status()
		if len(s.Calls) > 0 || s.Counters.Panics > 0 || len(s.Problems) > 0 {
			return "", fmt.Errorf("%s: %d calls in progress, %d faults, problems %v", d.name(i), len(s.Calls), s.Counters.Panics, s.Problems)
		}
	}
	return "no call is left, and no node has a complaint", nil
}

func (d *demonstration) close() {
	var all []io.Closer
	if d.alice != nil {
		all = append(all, d.alice)
	}
	if d.bob != nil {
		all = append(all, d.bob)
	}
	for _, n := range d.nodes {
		all = append(all, n)
	}
	done := make(chan struct{}, len(all))
	for _, c := range all {
		go func() { c.Close(); done <- struct{}{} }()
	}
	for range all {
		<-done
	}
	d.ladder.close()
}
