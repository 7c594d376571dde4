package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"p2psip/cmd/p2psip/node"
	"p2psip/interwork/phone"
	"p2psip/interwork/proxy"
)

// The columns of flow 5.1, those of the draft's figure 5.
const (
	inAlice   = colAlice
	inOverlay = colOverlay
	inRelayA  = 2
	inRelayB  = 3
	inBob     = 4
)

var insideColumns = []string{"Alice", "overlay", "her relay", "his relay", "Bob"}

// inside is what flow 5.1 has that the others have not: bob.
type inside struct {
	phone *phone.Phone
	call  *phone.Call // at his end
}

// alice is the trace of alice's node. Her INVITE goes into the overlay, the rest between her and bob.
func (*inside) alice(w *witness) func(proxy.Event) {
	return func(e proxy.Event) {
		switch {
		case e.Flow.Edge() || !e.Out:
		case begins(e.Message):
			w.saw(inAlice, inOverlay, e.Message)
		default:
			w.saw(inAlice, inBob, e.Message)
		}
	}
}

// bob is the trace of bob's node.
func (*inside) bob(w *witness) func(proxy.Event) {
	return func(e proxy.Event) {
		switch {
		case e.Flow.Edge():
		case e.Out:
			w.saw(inBob, inAlice, e.Message)
		case begins(e.Message):
			w.saw(inOverlay, inBob, e.Message)
		}
	}
}

// callBob is steps 1 to 11.
func (d *flowDemo) callBob(ctx context.Context) (string, error) {
	d.witness.expect(
		draftStep{"(1)", inAlice, inOverlay, "Get Relay"},
		draftStep{"(2)", inOverlay, inAlice, "Response"},
		draftStep{"(3)", inAlice, inRelayA, "Init Relay"},
		draftStep{"(4)", inRelayA, inAlice, "Ok"},
		draftStep{"(5)", inAlice, inOverlay, "INVITE"},
		draftStep{"(6)", inOverlay, inBob, "INVITE"},
		draftStep{"(7)", inBob, inOverlay, "Get Relay"},
		draftStep{"(8)", inOverlay, inBob, "Response"},
		draftStep{"(9)", inBob, inRelayB, "Init Relay"},
		draftStep{"(10)", inRelayB, inBob, "Ok"},
		draftStep{"", inBob, inAlice, "200 OK"},
		draftStep{"(11)", inAlice, inBob, "ICE"})
	var err error
	if d.atAlice, err = d.alice.Call(ctx, "sip:bob@"+demoOverlay); err != nil {
		return "", err
	}
	if d.inside.call, err = d.answered(ctx, d.atAlice, d.incoming); err != nil {
		return "", err
	}
	// ICE has found its way when both nodes send over a pair of candidates that answered.
	chosen := func() bool { return d.pathOf(flowAlice) != "" && d.pathOf(flowBob) != "" }
	if err := until(ctx, chosen); err != nil {
		return "", fmt.Errorf("ICE has come to nothing: %w", err)
	}
	d.witness.see(inAlice, inBob, "ICE", "")
	return "bob's phone rang and was answered, and ICE has found a way", d.witness.missing()
}

var (
	candidateLine   = regexp.MustCompile(`(?m)^a=candidate:\S+ [0-9]+ \S+ [0-9]+ (\S+) ([0-9]+) typ (\S+)`)
	fingerprintLine = regexp.MustCompile(`(?m)^a=fingerprint:`)
)

// offers looks at a description with ICE: all candidates are addresses that the relay peer has given, and there is a
// fingerprint to encrypt with.
func offers(text string, given []string) error {
	if !fingerprintLine.MatchString(text) || !strings.Contains(text, "UDP/TLS/RTP/SAVP") {
		return errors.New("it does not offer DTLS-SRTP")
	}
	list := candidateLine.FindAllStringSubmatch(text, -1)
	if len(list) == 0 {
		return errors.New("it has no ICE candidates")
	}
	for _, c := range list {
		if c[3] != "relay" {
			return fmt.Errorf("it has a candidate of type %s", c[3])
		}
		if !slices.Contains(given, c[1]+":"+c[2]) {
			return fmt.Errorf("its candidate %s:%s is none that the relay peer has given", c[1], c[2])
		}
	}
	return nil
}

// lookInside looks at what the nodes told each other.
func (d *flowDemo) lookInside(ctx context.Context) (string, error) {
	for _, x := range []struct {
		what, label            string
		from, to, who, atRelay int
	}{
		{"alice's INVITE", "INVITE", inAlice, inOverlay, inAlice, inRelayA},
		{"bob's answer", "200 OK", inBob, inAlice, inBob, inRelayB},
	} {
		text, ok := d.witness.message(x.from, x.to, x.label)
		if !ok {
			return "", fmt.Errorf("%s was not seen", x.what)
		}
		if err := offers(text, d.witness.texts(x.atRelay, x.who, "Ok")); err != nil {
			return "", fmt.Errorf("%s: %w", x.what, err)
		}
	}
	d.prove("5.1: alice's node had an address at a relay peer before the INVITE left, bob's before his phone rang; the overlay named the relay peers")
	d.prove("5.1: neither offer showed any other address than the relayed one, so nobody learned where the other is")
	for _, i := range []int{flowAlice, flowBob} {
		media := func() *node.CallMedia {
			if calls := d.nodes[i].Status().Calls; len(calls) == 1 && calls[0].Media != nil {
				return calls[0].Media
			}
			return &node.CallMedia{}
		}
		// The way is there first, and the keys come over it.
		if err := until(ctx, func() bool { return media().Encrypted != "" }); err != nil {
			return "", fmt.Errorf("node %d has no keys: %w", i, err)
		}
		m := media()
		relay := d.relay(map[int]int{flowAlice: 0, flowBob: 1}[i]).ID().String()
		if m.Path != "relayed" || !slices.Contains(m.Relays, relay) || m.Encrypted != "node to node" {
			return "", fmt.Errorf("node %d says that the sound goes %s by %v, encrypted: %s", i, m.Path, m.Relays, m.Encrypted)
		}
	}
	return "both offer ICE with relayed candidates only, and keys for DTLS-SRTP from node to node", nil
}

// talkInside is step 12.
func (d *flowDemo) talkInside(ctx context.Context) (string, error) {
	before := d.relayedBytes()
	alice, bob, err := heardEach(ctx, d.atAlice, d.inside.call)
	if err != nil {
		return "", err
	}
	after := d.relayedBytes()
	want := soundBytes(alice + bob)
	for i := range after {
		if after[i] -= before[i]; after[i] < want {
			return "", fmt.Errorf("relay peer %d has carried %d octets of %d or more", i+1, after[i], want)
		}
	}
	l := d.witness.ladder
	l.both(inAlice, inRelayA, "(12) Media")
	l.both(inRelayA, inRelayB, "(12) Media")
	l.both(inRelayB, inBob, "(12) Media")
	d.prove("5.1: the sound crossed both relay peers, encrypted: for %d packets they counted %d and %d bytes", alice+bob, after[0], after[1])
	return fmt.Sprintf("each hears the other's tone; her relay peer carried %d bytes, his %d", after[0], after[1]), nil
}

func (d *flowDemo) bobHangsUp(ctx context.Context) (string, error) {
	d.witness.expect(draftStep{"", inBob, inAlice, "BYE"}, draftStep{"", inAlice, inBob, "200 (BYE)"})
	if err := d.inside.call.Hangup(ctx); err != nil {
		return "", err
	}
	if _, err := d.atAlice.Wait(ctx, phone.Ended); err != nil {
		return "", fmt.Errorf("alice: %w", err)
	}
	return "bob hung up, and alice's phone knows", d.witness.missing()
}
