package media

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"

	"p2psip/interwork/media/sdp"
)

// Side is one of the two sides of a call as its node sees them.
type Side uint8

// The sides.
const (
	Near Side = iota // the phone
	Far              // the other node, or the outside
)

// Other is the other side.
func (s Side) Other() Side { return 1 - s }

func (s Side) String() string {
	if s == Near {
		return "near side"
	}
	return "far side"
}

// Message says where a description was found.
type Message struct {
	From   Side   // who wrote it
	Method string // INVITE, UPDATE, PRACK, ACK: of the request, or of the one that a response answers
	CSeq   uint32 // of the request; with From it tells transactions apart. An ACK has that of its INVITE
	Status int    // 0 for a request
	// Fork is the tag of the party that was called: the To tag of a response to the first INVITE, whichever way a later request
	// goes. "" for a request that begins a dialog. Each fork of a request is a dialog of its own (RFC 3261 §12).
	Fork string
}

// Description is one that has been read and judged: what it says to the legs, and what Send needs.
type Description struct {
	Message
	Offer   bool        // else an answer
	Repeat  bool        // seen before: Send gives what it gave before, and nothing in it is new
	Streams []MediaLine // one for each m-line there ever was, in order

	session *sdp.Session
	past    *past
	after   *round // what was the newest when this was read
	matched []int  // for an answer: which of its m-lines answers which of the offer's; -1: none
}

// MediaLine is one m-line of a description, with what the session part says for it.
type MediaLine struct {
	Kind      string        // audio, video, text, …
	Codec     string        // the first one, "PCMU/8000"; "" if it has no name
	Carry     bool          // it is in use and can be carried: it needs a leg on both sides
	Why       string        // if not, why
	Remote    sdp.Transport // where and how it travels on the side that wrote the description
	Direction sdp.Direction // seen from the writer; both styles of hold count
	Restart   bool          // ICE begins anew there: other credentials than in its last description (RFC 8839 §4.4.1.1.1)
	NewKeys   bool          // a new DTLS association, or new SDES keys: other fingerprints, tls-id or keys than in its last description
}

// Sent is a description made for the other side.
type Sent struct {
	Body []byte
	// Streams are what it says about transport, one for each m-line there ever was: of what the leg has to give, this is what it
	// was told to use. In an answer Setup is the role taken, and Crypto has the one line chosen, with the tag of the offer's.
	// Port 0: no stream.
	Streams []sdp.Transport
}

// NegotiationConfig says between whom descriptions are exchanged.
type NegotiationConfig struct {
	Legs [2]Leg // by Side
	// MaxStreams is how many streams in use an offer may have, more are refused with 488; 0: DefaultMaxMedia.
	MaxStreams int
	// ID and Version are what the o= lines of this node begin with. An ID made from the Call-ID and a secret, and a Version
	// made from the clock, go on rightly after a restart of the node.
	ID, Version uint64
}

// DefaultMaxMedia is how many streams in use a description may have (m-lines beyond it are no telephone call).
const DefaultMaxMedia = 8

const (
	// maxForks is how many dialogs one branch may have. Who rings more telephones at once than that hears the first ones.
	maxForks = 8
	// maxDescription bounds what one description may make a node remember: several times its octets, for each fork. A
	// browser's with video has 8 KiB.
	maxDescription = 32 << 10
)

// Negotiation is the state of offers and answers (RFC 3264, RFC 6337) of one INVITE's branch and of the dialogs that come of it.
// It is fed with the descriptions of both sides in the order in which they pass, and makes those for the other side: all
// about transport replaced, all else kept. It does no input or output and reads no clock; what it says depends on what it
// was told only. It belongs to one goroutine at a time.
//
// Each description goes through two calls, so that legs can be made ready between them:
//
//	d, err := n.Receive(msg, body)   // offer or answer? what does each stream bring?
//	out, err := n.Send(d, local)     // the description for the other side, whose legs are reached at local
//
// Between the two, other messages may come. A request that failed is told with Failed, and what it offered is as if it had never been.
type Negotiation struct {
	cfg   NegotiationConfig
	root  *talk            // before there is a tag
	forks map[string]*talk // by Message.Fork
}

// NewNegotiation begins with nothing said.
func NewNegotiation(cfg NegotiationConfig) *Negotiation {
	if cfg.MaxStreams == 0 {
		cfg.MaxStreams = DefaultMaxMedia
	}
	return &Negotiation{cfg: cfg, root: &talk{}, forks: map[string]*talk{}}
}

// talk is what was said in one dialog.
type talk struct {
	heard   [2]heard // by side: what it has said, and stands
	told    [2]told  // by side: what it has been told
	last    *round
	late    bool   // an INVITE without offer is under way, from lateBy
	lateBy  Side   //
	history []past // newest last, so that a repetition gets what the first got
}

// heard is what a side has said. It is rolled back when an offer fails.
type heard struct {
	session *sdp.Session
	remote  []sdp.Transport // of its streams
	kinds   []string
	roles   []sdp.Setup // our role in DTLS with it, for each stream
}

// told is what a side has been told last, whether it agreed or not. It is never rolled back: a version number is used once.
type told struct {
	id, version uint64
	username    string
	addr        netip.Addr
	content     []byte       // of the last description, its version apart
	session     *sdp.Session // the last description; nil before the first
	local       []sdp.Transport
}

// round is the newest offer and what became of it.
type round struct {
	by       Side // who offered
	method   string
	starter  Side // who sent the request that it is part of
	cseq     uint32
	offer    *sdp.Session // as it came
	streams  []MediaLine  // of the offer
	offered  []bool       // which of them were offered to the other side
	answered bool
	before   [2]heard // to be restored if it fails
}

// past is one message that was dealt with.
type past struct {
	msg     Message
	body    [sha256.Size]byte // its hash
	offer   bool
	streams []MediaLine
	sent    Sent
}

// historySize is how many messages of a dialog are remembered; repetitions come within 32 seconds.
const historySize = 8

// dialogOf gives the dialog of a fork. One that is seen for the first time goes on from what was said before there were tags.
func (n *Negotiation) dialogOf(fork string) (*talk, error) {
	if fork == "" {
		return n.root, nil
	}
	if d := n.forks[fork]; d != nil {
		return d, nil
	}
	if len(n.forks) >= maxForks {
		return nil, &Refusal{488, fmt.Sprintf("more than %d answers to one request", maxForks)}
	}
	d := *n.root
	if d.last != nil {
		x := *d.last
		d.last = &x
	}
	d.history = slices.Clone(d.history)
	n.forks[fork] = &d
	return &d, nil
}

// Receive reads a description and says what it is. Messages without one are told with an empty body, which gives nil and no
// error: an INVITE, because a late offer is to come, and a 2xx and an ACK, because what they do not answer stays unanswered.
// Errors are *Refusal: 488 for what cannot be carried, 491 for an offer that crosses another, 500 for one that comes before
// its sender's last was answered, 502 for an answer that does not fit.
func (n *Negotiation) Receive(msg Message, body []byte) (*Description, error) {
	d, err := n.dialogOf(msg.Fork)
	if err != nil {
		return nil, err
	}
	if len(body) == 0 {
		d.silent(msg)
		return nil, nil
	}
	desc, err := n.read(d, msg, body)
	if err != nil && (msg.Status != 0 || msg.Method == "ACK") {
		d.silent(msg)
	}
	return desc, err
}

// read is Receive for a body that is not empty.
func (n *Negotiation) read(d *talk, msg Message, body []byte) (*Description, error) {
	if p := d.repeated(msg, body); p != nil {
		return &Description{Message: msg, Offer: p.offer, Repeat: true, Streams: p.streams, past: p}, nil
	}
	isOffer, err := d.judge(msg)
	if err != nil {
		return nil, err
	}
	if len(body) > maxDescription {
		return nil, &Refusal{488, fmt.Sprintf("a description of %d bytes, more than %d", len(body), maxDescription)}
	}
	s, err := sdp.Parse(body)
	if err != nil {
		return nil, &Refusal{488, err.Error()}
	}
	desc := &Description{Message: msg, Offer: isOffer, session: s, after: d.last,
		past: &past{msg: msg, body: sha256.Sum256(body), offer: isOffer}}
	if isOffer {
		err = n.readOffer(d, desc)
	} else {
		err = n.readAnswer(d, desc)
	}
	return desc, err
}

// Send makes the description for the other side. local says, for each of d.Streams that is to be carried, how its leg on
// that side is reached: all that it has, of which the kind of the leg and what that side understands pick. A stream without
// port is refused on both sides. The error is a *Refusal with 491 where another description came in between Receive and Send.
func (n *Negotiation) Send(d *Description, local []sdp.Transport) (Sent, error) {
	if d.Repeat {
		return d.past.sent, nil
	}
	dlg, err := n.dialogOf(d.Fork)
	if err != nil {
		return Sent{}, err
	}
	if dlg.last != d.after {
		return Sent{}, &Refusal{491, "crossed by another description"}
	}
	var sent Sent
	if d.Offer {
		sent, err = n.sendOffer(dlg, d, local)
	} else {
		sent, err = n.sendAnswer(dlg, d, local)
	}
	if err != nil {
		return Sent{}, err
	}
	p := d.past
	p.streams, p.sent = d.Streams, sent
	if len(dlg.history) == historySize {
		dlg.history = slices.Delete(dlg.history, 0, 1)
	}
	dlg.history = append(dlg.history, *p)
	return sent, nil
}

// repeated finds a message that was dealt with before. One without CSeq is always taken for new.
func (d *talk) repeated(msg Message, body []byte) *past {
	hash := sha256.Sum256(body)
	for i := len(d.history) - 1; i >= 0; i-- {
		p := &d.history[i]
		if msg.CSeq != 0 && p.msg.CSeq == msg.CSeq && p.msg.From == msg.From && p.msg.Method == msg.Method &&
			(p.msg.Status == 0) == (msg.Status == 0) && p.body == hash && !d.outdated(i, msg) {
			return p
		}
	}
	return nil
}

// outdated: the same words as before, but the party has said something else in between, in the same transaction; and this is
// no repetition of that provisional response, but a final one.
func (d *talk) outdated(i int, msg Message) bool {
	if p := d.history[i]; p.msg.Status == 0 || p.msg.Status >= 200 || msg.Status < 200 {
		return false
	}
	for _, q := range d.history[i+1:] {
		if q.msg.From == msg.From && q.msg.CSeq == msg.CSeq && q.msg.Method == msg.Method {
			return true
		}
	}
	return false
}

// Failed tells that a request of that side ended without success, or without answer (a final status of 300 and above,
// CANCEL, lost): what was offered in it is taken back, and the same request may be begun again. Fork is that of the
// request, so "" for the first INVITE, whose forks end with it.
func (n *Negotiation) Failed(msg Message) {
	d := n.root
	if msg.Fork == "" {
		clear(n.forks)
	} else if d = n.forks[msg.Fork]; d == nil {
		return
	}
	d.history = slices.DeleteFunc(d.history, func(p past) bool {
		return p.msg.Method == msg.Method && p.msg.CSeq == msg.CSeq
	})
	if msg.Method == "INVITE" {
		d.late = false
	}
	x := d.last
	if x == nil || x.starter != msg.From || x.method != msg.Method || msg.CSeq != 0 && x.cseq != 0 && x.cseq != msg.CSeq {
		return
	}
	d.heard, d.last = x.before, nil
}
