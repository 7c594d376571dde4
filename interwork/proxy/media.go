package proxy

import (
	"p2psip/interwork/flow"
	"p2psip/overlay"
)

// Media replaces the session descriptions (RFC 4566) of phones beside this node on their way through it, and moves the sound.
// None of its methods blocks or calls back into the Core on the goroutine that called it.
//
// It is asked about what passes between a phone beside this node and anything that is not: another node, or, at a proxy
// peer, the public side. Between two phones of this node, and where a proxy peer carries a call of somebody else, nobody
// asks. What it is given is the session description alone: bodies of several parts are taken apart and put together by the
// proxy, and a body that the proxy cannot read (Content-Encoding, S/MIME) passes without a question.
type Media interface {
	// Open begins the exchange of one copy of a request: INVITE, or UPDATE or PRACK with a description. Each branch of a request has one of its own;
	// those that go to one place after the other outside the overlay share one. nil: this request and its responses pass
	// untouched.
	//
	// A request inside a dialog that nothing is known of, as after a restart of this node, is a beginning like any other: what
	// it offers is anchored anew.
	Open(d MediaDialog) MediaExchange
	// Find gives the exchange that belongs to an ACK, or to a response whose transaction has ended, nil where there is none.
	// d is that of the request acknowledged or answered (Method INVITE for an ACK), with the To tag of this message; Transaction
	// is empty. The dialog and CSeq tell one exchange from all others.
	Find(d MediaDialog) MediaExchange
	// End says that a dialog is over: its BYE was answered, the far side has said that it knows nothing of it (481), or its
	// session interval ran out (RFC 4028). The tags are those of either direction.
	End(callID, fromTag, toTag string)
}

// MediaDialog says what a request, and its dialog, is to the node beside the phone.
type MediaDialog struct {
	CallID, FromTag, ToTag string // as in the request; ToTag is "" where it begins a dialog
	Method                 string // INVITE, UPDATE or PRACK
	CSeq                   uint32
	// FromPhone: the request travels from the phone, so FromTag is the phone's and ToTag the far side's; else the reverse.
	// A call from one phone of this node to another by way of somewhere else passes twice, with the same Call-ID and tags.
	FromPhone bool
	// Transaction names the request as it arrived: the same for all copies of it that this node sends on (as to several phones of
	// the user called, where one far side gets several answers), different for two requests that differ in nothing else.
	Transaction string

	Phone     flow.Flow // the phone's; the host of its remote address is where the phone signals from. nil in Find if it has gone
	PhoneHost string    // address of this node as that phone knows it; unspecified only when nobody knows better
	ICE       bool      // the phone has registered with +sip.ice (RFC 5768)

	Outside bool           // the far side is outside the overlay
	Node    overlay.NodeID // the node of the far side; of the proxy peer in between where a request comes from outside, "" where it goes there

	From, To string // the addresses of the parties as the request says them, for people to look at; "" in Find
}

// MediaExchange is one copy of a request with its responses, at most one of which counts. Its methods may be called by any
// goroutine; Request comes before all others but Close, which may come while ready runs. An error that has a method SIPStatus() int says how a request is
// answered.
type MediaExchange interface {
	// Request gives the session description to send on for that of the request; nil in, where an INVITE has none (a late offer,
	// RFC 3264 §4: what the answer to it needs is to be at hand before the first response comes). It is called once, first.
	// now=false: out and err mean nothing yet, and ready is called once, on another goroutine and under no lock that Request,
	// Response or Close take. The proxy waits for it 1.5 s at the most.
	Request(sdp []byte, ready func(out []byte, err error)) (out []byte, now bool, err error)
	// Response gives the session description to send on for that of a response above 100 and below 300; nil in, where it has
	// none. reliable: it is a 2xx or will be acknowledged by PRACK (RFC 3262). The same input gives the same output, as often as
	// it is repeated, also after the ACK. After an error the response goes on without description.
	Response(status int, toTag string, reliable bool, sdp []byte) (out []byte, err error)
	// Ack does the same for the ACK of a 2xx, and its repetitions. After an error the ACK goes on without description.
	Ack(toTag string, sdp []byte) (out []byte, err error)
	// Close: no 2xx comes of this copy: it failed, was cancelled or is lost. What it changed in a session that goes on is
	// taken back (RFC 3261 §14.1). It may be called before ready has been, which then need not be called.
	Close()
}
