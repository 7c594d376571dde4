package phone

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
	"p2psip/interwork/phone/audio"
	"p2psip/interwork/transaction"
)

// Call is one call, outgoing or incoming.
type Call struct {
	p        *Phone
	outgoing bool
	callID   string
	localTag string
	peer     string // URI of the far side as it was called, or as it calls itself
	states   states
	media    *media

	mu      sync.Mutex // guards all below; taken before the locks of the phone, the states and the media
	session uint64     // of the SDP this side writes
	version uint64
	dlg     *dialog // once there is a 2xx
	held    bool    // this side holds the call
	theirs  direction
	limit   *time.Timer // ends the setting up
	detach  func() bool // from the context of Call

	// Of an outgoing call while it is set up; see outgoing.go.
	client    *transaction.Client
	invite    *sip.Request
	tries     int
	auth      []string // answers to challenges, which the ACK repeats
	cancelled bool
	extra     []string     // further headers of the INVITE
	answerer  string       // what the 200 says of who has answered
	ack       *sip.Request // for the 2xx, repeated with it

	// Of an incoming call; see incoming.go.
	tx       *transaction.Server
	offer    *description // nil: the INVITE came without one
	unacked  *unacked     // a 2xx of this side that waits for its ACK
	deferred *time.Timer  // what the policy does later
	early    []byte       // the answer that a 183 has given and the 200 has to repeat
	mode     sip.Header   // of the 200: who has answered

	modifying bool // an INVITE of this side inside the dialog is under way
}

func (p *Phone) newCall(outgoing bool, callID, peer string) (*Call, error) {
	conn, control, err := p.sockets()
	if err != nil {
		return nil, fmt.Errorf("open a socket for audio: %w", err)
	}
	c := &Call{
		p: p, outgoing: outgoing, callID: callID, localTag: token(), peer: peer,
		media: newMedia(conn, control, nil), session: sessionID(), theirs: sendrecv,
	}
	c.media.silent, c.media.every, c.media.codecs = p.cfg.Silent, p.cfg.ReportEvery, p.cfg.Codecs
	c.states.changed = make(chan struct{})
	c.media.source = &audio.Tone{Hz: p.cfg.ToneHz}
	if p.cfg.Sound != nil {
		source, sink := p.cfg.Sound(c)
		if source != nil {
			c.media.source = source
		}
		c.media.sink = sink
	}
	return c, nil
}

// sessionID makes the number of a session for SDP (RFC 8866 §5.2).
func sessionID() uint64 {
	var b [4]byte
	rand.Read(b[:])
	return uint64(binary.BigEndian.Uint32(b[:]))
}

// Outgoing says which side called.
func (c *Call) Outgoing() bool { return c.outgoing }

// Peer is the URI of the far side: the one called, or the From of the caller.
func (c *Call) Peer() string { return c.peer }

// Proceeding says whether any response to an outgoing call has come, were it only 100: the proxy is there.
func (c *Call) Proceeding() bool {
	for _, k := range []Kind{Trying, Ringing, Answered} {
		if _, there := c.states.has(k); there {
			return true
		}
	}
	return false
}

// Remote is where the audio goes, as the far side has last said; invalid before it has.
func (c *Call) Remote() netip.AddrPort {
	c.media.mu.Lock()
	defer c.media.mu.Unlock()
	return c.media.remote
}

// Answerer is what the far side of an outgoing call says of who has answered, "Auto" or "Manual" (RFC 5373), "" if nothing.
func (c *Call) Answerer() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answerer
}

// ID is the Call-ID.
func (c *Call) ID() string { return c.callID }

// Media tells what the audio has come to so far, also after the call.
func (c *Call) Media() Stats { return c.media.stats() }

// WaitHeard returns when at least packets packets of a tone of that frequency have arrived in all and it is that tone
// which is heard; the error says what was heard instead.
func (c *Call) WaitHeard(ctx context.Context, hz float64, packets int) (Stats, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		s := c.Media()
		if s.Received >= packets && s.Heard.Is(hz) {
			return s, nil
		}
		if c.states.over() {
			return s, fmt.Errorf("wait to hear %.0f Hz: %w: %s", hz, ErrOver, s)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return s, fmt.Errorf("wait to hear %.0f Hz: %s: %w", hz, s, context.Cause(ctx))
		}
	}
}

// Hangup ends the call in whatever state it is: BYE, CANCEL, or 603 to a call that rings here. It returns when the far
// side has answered; the call is over then whatever the answer was.
func (c *Call) Hangup(ctx context.Context) error {
	c.mu.Lock()
	established := c.dlg != nil
	c.mu.Unlock()
	switch {
	case c.states.over():
		return nil
	case established:
		err := c.bye(ctx)
		c.end(State{Kind: Ended, Reason: "hung up here"})
		return err
	case c.outgoing:
		c.Cancel()
		if _, err := c.Wait(ctx, Failed); err != nil && !c.states.over() {
			return err
		}
		return nil
	default:
		return c.Reject(603)
	}
}

func (c *Call) bye(ctx context.Context) error {
	c.mu.Lock()
	f := c.p.hop(c.dlg)
	c.mu.Unlock()
	res, err := c.p.do(ctx, f, func(auth []string) (*sip.Request, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.p.inDialog(c.dlg, "BYE", 0, auth, nil)
	})
	if err == nil {
		err = statusError("BYE", res)
	}
	if err != nil {
		return fmt.Errorf("hang up on %s: %w", c.peer, err)
	}
	return nil
}

// end brings the call to its last state and gives everything back. The first to do so wins.
func (c *Call) end(st State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked(st)
}

func (c *Call) endLocked(st State) {
	if c.states.over() {
		return
	}
	for _, t := range []*time.Timer{c.limit, c.deferred} {
		if t != nil {
			t.Stop()
		}
	}
	if c.detach != nil {
		c.detach()
	}
	c.unacked.stop()
	c.unacked = nil
	c.media.close()
	c.p.remove(c)
	c.states.push(st)
}

// failed ends a call that never came about.
func (c *Call) failedLocked(status int, reason string) {
	if reason == "" {
		reason = message.StatusText(status)
	}
	c.endLocked(State{Kind: Failed, Status: status, Reason: reason})
}

// answeredLocked starts the audio: the session is agreed.
func (c *Call) answeredLocked(theirs description) {
	c.direct(theirs)
	if c.limit != nil {
		c.limit.Stop()
	}
	if c.detach != nil {
		c.detach()
	}
	c.states.push(State{Kind: Answered, Status: 200, Reason: "OK"})
}

// ours is what this side wants of the audio.
func (c *Call) ours() direction {
	if c.held {
		return sendonly
	}
	return sendrecv
}

// direct sends the audio where the far side says.
func (c *Call) direct(theirs description) {
	c.theirs = theirs.dir
	c.media.set(theirs, c.ours().within(theirs.dir))
}

// describe writes the session as this side sees it: an offer, or the answer to offer.
func (c *Call) describe(offer *description) []byte {
	c.version++
	dir := c.ours()
	if offer != nil {
		dir = dir.within(offer.dir)
	}
	return c.media.describe(c.p.uri.User, c.session, c.version, dir, offer)
}

// acknowledge sends the ACK for a 2xx (§13.2.2.4).
func (p *Phone) acknowledge(d *dialog, cseq uint32, auth []string) *sip.Request {
	ack, err := p.inDialog(d, "ACK", cseq, auth, nil)
	if err != nil {
		p.log.Warn("no ACK", "call", d.callID, "err", err)
		return nil
	}
	p.send(p.hop(d), ack)
	return ack
}

// send sends what belongs to no transaction.
func (p *Phone) send(f flow.Flow, req *sip.Request) {
	if req == nil {
		return
	}
	if err := p.layer.Send(f, req); err != nil {
		p.log.Debug("not sent", "method", req.Method, "err", err)
	}
}

// usable says that audio can be exchanged with the address of a description.
func usable(a netip.AddrPort) bool { return a.IsValid() && a.Port() != 0 }
