package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"p2psip/cmd/p2psip/node"
	"p2psip/interwork/phone"
	"p2psip/overlay"
)

// What becomes of a call.
const (
	outcomeAnswered    = "answered"
	outcomeNoMedia     = "no-media"
	outcomeBusy        = "busy"
	outcomeUnknown     = "unknown-user"
	outcomeOffline     = "offline"
	outcomeNoAnswer    = "no-answer"
	outcomeDeclined    = "declined"
	outcomeCodec       = "no-common-codec"
	outcomeUnreachable = "unreachable"
	outcomeNoNode      = "no-node"
	outcomePassword    = "password"
	outcomeCancelled   = "cancelled"
	outcomeFailed      = "failed"
)

// Errors of calls; outcomes gives them their exit codes and hints.
var (
	errBusy     = errors.New("busy")
	errNoAnswer = errors.New("nobody answered")
	errDeclined = errors.New("the call was declined")
	errNoMedia  = errors.New("the call was answered, but nothing was heard")
	errCodec    = errors.New("the two phones have no codec in common")
	errSilent   = errors.New("no node takes phones there")
	errPassword = errors.New("the node does not take the password")
)

// callReport is what a call came to; --json prints it. Times are milliseconds.
type callReport struct {
	Outcome string `json:"outcome"`
	From    string `json:"from"`
	To      string `json:"to"`
	CallID  string `json:"call_id"`
	Status  int    `json:"status"` // SIP, the last that counted
	Reason  string `json:"reason"`
	Error   string `json:"error,omitempty"`

	RingingMS  float64 `json:"ringing_ms,omitempty"`  // from dialling
	AnsweredMS float64 `json:"answered_ms,omitempty"` // from dialling
	AudioMS    float64 `json:"audio_ms,omitempty"`    // from dialling to the first sound
	TalkMS     float64 `json:"talk_ms,omitempty"`

	Path *callPath `json:"path,omitempty"`

	Codec       string   `json:"codec,omitempty"`
	Sent        int      `json:"sent"` // packets
	Received    int      `json:"received"`
	Lost        int      `json:"lost"`
	Late        int      `json:"late"` // received, but not in time to be played
	LossPercent float64  `json:"loss_percent"`
	JitterMS    float64  `json:"jitter_ms"`
	BufferMS    float64  `json:"buffer_ms"`
	GapMS       float64  `json:"gap_ms"`             // longest silence of the line
	DelayMS     *float64 `json:"delay_ms,omitempty"` // one way, half of the round trip; nil: not known
	HeardHz     float64  `json:"heard_hz,omitempty"` // strongest frequency at the end

	Far *farReport `json:"far,omitempty"` // what the other side reports; nil: nothing

	R       float64 `json:"r,omitempty"`
	MOS     float64 `json:"mos,omitempty"`
	Verdict string  `json:"verdict,omitempty"`

	Record      string `json:"record,omitempty"`
	EndedBy     string `json:"ended_by,omitempty"` // "here" or "far side"
	Interrupted bool   `json:"interrupted,omitempty"`

	began time.Time
}

// farReport is what the other side has told of what it hears (RTCP).
type farReport struct {
	Lost     int     `json:"lost"`
	JitterMS float64 `json:"jitter_ms"`
}

// callPath is the way that the sound takes.
type callPath struct {
	// Kind is "phone": straight to the other phone, past the node; else how the sound leaves the node: "host", "reflexive" or
	// "relayed", and "none" while there is no way.
	Kind      string   `json:"kind"`
	Relays    []string `json:"relays,omitempty"` // relay peers of this side
	Encrypted string   `json:"encrypted"`        // "node to node", "to the far side" or "no"
	Phone     string   `json:"encrypted_to_phone"`
	Local     string   `json:"local,omitempty"`  // of the way between the nodes
	Remote    string   `json:"remote,omitempty"` // of the same, or of the other phone
	Trouble   string   `json:"trouble,omitempty"`
}

const (
	pathPhone = "phone"
	pathNone  = "none"
)

func (c *callPath) String() string {
	var s string
	switch c.Kind {
	case pathPhone:
		return "straight to " + c.Remote + ", not encrypted"
	case pathNone:
		s = "by no way yet"
	case "host":
		s = "straight from node to node, " + c.Local + " to " + c.Remote
	case "reflexive":
		s = "through a NAT, " + c.Local + " to " + c.Remote
	case "relayed":
		s = "through a relay peer, to " + c.Remote
		if len(c.Relays) > 0 {
			s = "through the relay peer " + strings.Join(c.Relays, " and ") + ", to " + c.Remote
		}
	default:
		s = c.Kind
	}
	switch {
	case c.Kind == pathNone:
	case c.Encrypted == "no":
		s += ", not encrypted"
	default:
		s += ", encrypted " + c.Encrypted
	}
	if c.Trouble != "" {
		s += " (" + c.Trouble + ")"
	}
	return s
}

// pathEvery is how often the node is asked which way the sound takes.
const pathEvery = time.Second

// pathOf finds out which way the sound takes: what the node says of the call, and if its sound does not pass through the node,
// the address that this phone sends it to. nil: not known.
func pathOf(s *node.Status, call *phone.Call) *callPath {
	remote := call.Remote()
	if s == nil || !remote.IsValid() {
		return nil
	}
	for _, c := range s.Calls {
		switch m := c.Media; {
		case c.ID != call.ID():
		case m == nil:
			return &callPath{Kind: pathPhone, Remote: remote.String(), Encrypted: "no", Phone: "no"}
		default:
			p := &callPath{Kind: m.Path, Relays: m.Relays, Encrypted: m.Encrypted, Phone: m.Phone, Trouble: m.Trouble}
			if p.Kind == "" {
				p.Kind = pathNone
			}
			for _, st := range m.Streams {
				if st.Kind == "audio" && st.Local.IsValid() {
					p.Local, p.Remote = st.Local.String(), st.Remote.String()
				}
			}
			return p
		}
	}
	return nil
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// measure takes the figures of the sound over.
func (r *callReport) measure(s phone.Stats) {
	r.Codec, r.Sent, r.Received, r.Lost, r.Late = s.Codec.String(), s.Sent, s.Received, s.Lost, s.Late
	r.JitterMS, r.BufferMS, r.GapMS = millis(s.Jitter), millis(s.Buffered), millis(s.Gap)
	if s.Control.Trips > 0 {
		d := millis(s.Delay)
		r.DelayMS = &d
	}
	r.HeardHz = float64(int(s.Heard.Hz + 0.5))
	if s.First > 0 {
		r.AudioMS = r.AnsweredMS + millis(s.First)
	}
	if s.Control.Received > 0 {
		r.Far = &farReport{Lost: s.Control.Lost, JitterMS: millis(s.Control.Jitter)}
	}
	if q, ok := s.Quality(); ok {
		r.LossPercent = 100 * q.Loss
		r.R, r.MOS, r.Verdict = round(q.R(), 10), round(q.MOS(), 100), q.Verdict()
	}
}

func round(v, steps float64) float64 { return float64(int(v*steps+0.5)) / steps }

// refused makes of a call that did not come about an outcome and an error.
func (r *callReport) refused(call *phone.Call, h *handset, rang, gaveUp bool, ctx context.Context) error {
	said := fmt.Sprintf("%d %s", r.Status, r.Reason)
	outcome, err := outcomeFailed, error(&phone.StatusError{Method: "the call to " + r.To, Status: r.Status, Reason: r.Reason})
	switch st := r.Status; {
	case ctx.Err() != nil:
		outcome, err = outcomeCancelled, context.Cause(ctx)
	case gaveUp && !rang && !call.Proceeding():
		outcome, err = outcomeNoNode, fmt.Errorf("%w: nothing answers at %s", errSilent, h.node)
	case gaveUp:
		outcome, err = outcomeNoAnswer, fmt.Errorf("%w at %s", errNoAnswer, r.To)
	case st == 486 || st == 600:
		outcome, err = outcomeBusy, fmt.Errorf("%s is %w (%s)", r.To, errBusy, said)
	case st == 404 || st == 604:
		outcome, err = outcomeUnknown, fmt.Errorf("%s: %w (%s)", r.To, overlay.ErrUnknownUser, said)
	case (st == 480 || st == 408 || st == 487) && rang:
		outcome, err = outcomeNoAnswer, fmt.Errorf("%w at %s (%s)", errNoAnswer, r.To, said)
	case st == 480:
		outcome, err = outcomeOffline, fmt.Errorf("%s: %w (%s)", r.To, overlay.ErrOffline, said)
	case wrongPassword(st, r.Reason):
		outcome, err = outcomePassword, fmt.Errorf("%w of %s (%s)", errPassword, r.From, said)
	case st == 403 || st == 603:
		outcome, err = outcomeDeclined, fmt.Errorf("%w by %s (%s)", errDeclined, r.To, said)
	case st == 488 || st == 415 || st == 606:
		outcome, err = outcomeCodec, fmt.Errorf("%w (%s)", errCodec, said)
	case (st == 408 || st == 503) && !call.Proceeding():
		outcome, err = outcomeNoNode, fmt.Errorf("%w: nothing answers at %s (%s)", errSilent, h.node, r.Reason)
	case st == 503 || st == 504:
		outcome, err = outcomeUnreachable, fmt.Errorf("the call to %s: %w (%s)", r.To, overlay.ErrUnreachable, said)
	}
	r.Outcome, r.Error = outcome, err.Error()
	return err
}

// sayCall prints the report for people.
func (p *program) sayCall(r *callReport) {
	t := func(msec float64) string { return ms(time.Duration(msec * float64(time.Millisecond))) }
	setUp := "answered after " + t(r.AnsweredMS)
	if r.RingingMS > 0 {
		setUp = "rang after " + t(r.RingingMS) + ", " + setUp
	}
	if r.AudioMS > 0 {
		setUp += ", first sound after " + t(r.AudioMS)
	}
	path := "not known"
	if r.Path != nil {
		path = r.Path.String()
	}
	rows := [][]string{{"call", fmt.Sprintf("%s with %s", t(r.TalkMS), r.To)}, {"set-up", setUp}, {"path", path},
		{"sent", fmt.Sprintf("%s, %s", plural(r.Sent, "packet"), r.Codec)}}
	if r.Far != nil {
		rows = append(rows, []string{"heard there", fmt.Sprintf("%d lost, jitter %s", r.Far.Lost, t(r.Far.JitterMS))})
	} else {
		rows = append(rows, []string{"heard there", "the other side does not tell"})
	}
	rows = append(rows, []string{"received", fmt.Sprintf("%s, %d lost, %d too late (%.1f %%), jitter %s, longest gap %s", plural(r.Received, "packet"), r.Lost, r.Late, r.LossPercent, t(r.JitterMS), t(r.GapMS))})
	delay := "not known"
	if r.DelayMS != nil {
		delay = t(*r.DelayMS) + " one way"
	}
	rows = append(rows, []string{"delay", fmt.Sprintf("%s, and %s waiting to be played", delay, t(r.BufferMS))})
	if r.MOS > 0 {
		rows = append(rows, []string{"rating", fmt.Sprintf("MOS %.2f (R %.1f), people would be %s", r.MOS, r.R, r.Verdict)})
	}
	if r.Record != "" {
		rows = append(rows, []string{"recorded", r.Record})
	}
	p.ui.Say("")
	p.ui.Table(rows...)
}

// reopen opens a socket in the place of one that was closed.
func reopen(old net.PacketConn) (net.PacketConn, error) {
	at := *old.LocalAddr().(*net.UDPAddr)
	at.Port = 0
	return net.ListenUDP("udp", &at)
}
