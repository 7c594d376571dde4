package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/cmd/p2psip/node"
	"p2psip/interwork/flow"
	"p2psip/interwork/phone"
	"p2psip/interwork/proxy"
)

// The columns of the flows across the border, as in the draft's figures 6 to 8. A person stands for the phone and the node
// beside it: what passes between those two is not drawn.
const (
	colAlice = iota
	colOverlay
	colRelay
	colProxy
	colProvider
	colCarol
)

var flowColumns = []string{"Alice", "overlay", "relay peer", "proxy peer", "Carol's proxy", "Carol"}

// sight is a message as its sender let it go.
type sight struct {
	from, to int
	label    string // "INVITE", "200 (BYE)"
	text     string
}

// draftStep is a numbered step of the draft, a message from one element to another.
type draftStep struct {
	number   string // "(7)"; "": without one in the draft
	from, to int
	label    string // of the message
}

// text names the step in words, with the names of the columns.
func (s draftStep) text(columns []string) string {
	return strings.TrimSpace(fmt.Sprintf("%s %s from %s to %s", s.number, s.label, columns[s.from], columns[s.to]))
}

// witness sees every message at its sender, draws it, and holds it against the steps of the draft.
type witness struct {
	ladder *ladder

	mu    sync.Mutex // guards what follows
	phone string     // address of carol's phone
	want  []draftStep
	done  int // of want
	seen  []sight
	door  int // the proxy peer that last carried an INVITE over the border, by index
}

// meet makes carol's phone known, so that what the provider sends it is told from what it sends to proxy peers.
func (w *witness) meet(carol *phone.Phone) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, w.phone, _ = strings.Cut(carol.Contact(), "@")
}

// expect sets the steps that have to come, in this order, and forgets what was seen.
func (w *witness) expect(steps ...draftStep) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.want, w.done, w.seen = steps, 0, nil
}

// missing gives an error that names the first step that has not come.
func (w *witness) missing() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done == len(w.want) {
		return nil
	}
	s := w.want[w.done]
	for _, g := range w.seen {
		if g.from == s.from && g.to == s.to && g.label == s.label {
			return fmt.Errorf("step %s came out of order", s.text(w.ladder.names))
		}
	}
	return fmt.Errorf("step %s is missing", s.text(w.ladder.names))
}

// message gives the first message seen from one element to another with this label.
func (w *witness) message(from, to int, label string) (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, g := range w.seen {
		if g.from == from && g.to == to && g.label == label {
			return g.text, true
		}
	}
	return "", false
}

// texts gives those of all that was seen from one element to another with this label.
func (w *witness) texts(from, to int, label string) (all []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, g := range w.seen {
		if g.from == from && g.to == to && g.label == label {
			all = append(all, g.text)
		}
	}
	return all
}

func (w *witness) saw(from, to int, m sip.Message) { w.see(from, to, label(m), m.String()) }

// see takes note of anything that passes from one element to another.
func (w *witness) see(from, to int, l, text string) {
	w.mu.Lock()
	if len(w.seen) < 1000 {
		w.seen = append(w.seen, sight{from, to, l, text})
	}
	drawn := l
	if w.done < len(w.want) {
		if s := w.want[w.done]; s.from == from && s.to == to && s.label == l {
			w.done++
			drawn = strings.TrimSpace(s.number + " " + l)
		}
	}
	w.mu.Unlock()
	w.ladder.add(time.Now(), from, to, drawn)
}

// provider and carol are traces of what is no node.
func (w *witness) carol(out bool, _ string, m sip.Message) {
	if out {
		w.saw(colCarol, colProvider, m)
	}
}

func (w *witness) provider(out bool, remote string, m sip.Message) {
	if !out {
		return
	}
	w.mu.Lock()
	to := colProxy
	if remote == w.phone {
		to = colCarol
	}
	w.mu.Unlock()
	w.saw(colProvider, to, m)
}

// node is the trace of alice's node. An INVITE for her comes out of the overlay; all else is between her and the proxy peer.
func (w *witness) node(e proxy.Event) {
	switch {
	case e.Flow.Edge():
	case e.Out:
		w.saw(colAlice, colProxy, e.Message)
	case begins(e.Message):
		w.saw(colOverlay, colAlice, e.Message)
	}
}

// begins says that a message is an INVITE outside of a dialog.
func begins(m sip.Message) bool {
	req, ok := m.(*sip.Request)
	if !ok || req.Method != sip.INVITE {
		return false
	}
	to := req.To()
	return to != nil && !to.Params.Has("tag")
}

// relays is the trace of what a node does about relay peers: who is its column, relay that of the relay peer.
func (w *witness) relays(who, relay int) func(node.RelayEvent) {
	return func(e node.RelayEvent) {
		switch {
		case e.Err != nil:
		case e.Step == node.RelayAsked:
			w.see(who, colOverlay, "Get Relay", "")
		case e.Step == node.RelayFound && e.Found > 0:
			w.see(colOverlay, who, "Response", "")
		case e.Step == node.RelayInit:
			w.see(who, relay, "Init Relay", "")
		case e.Step == node.RelayOK:
			w.see(relay, who, "Ok", e.Addr.String())
		}
	}
}

// proxyPeer is the trace of a proxy peer.
func (w *witness) proxyPeer(index int, e proxy.Event) {
	if !e.Out {
		return
	}
	to := colAlice
	switch {
	case flow.KindOf(e.Flow) == flow.KindPublic:
		to = colProvider
	case begins(e.Message):
		to = colOverlay
	}
	if req, ok := e.Message.(*sip.Request); ok && req.Method == sip.INVITE {
		w.mu.Lock()
		w.door = index
		w.mu.Unlock()
	}
	w.saw(colProxy, to, e.Message)
}

// lastDoor gives the index of the proxy peer that carried the last INVITE.
func (w *witness) lastDoor() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.door
}
