package phone

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
	"p2psip/interwork/transaction"
)

// allow is what the phone understands.
const allow = "INVITE, ACK, CANCEL, BYE, OPTIONS"

// token makes a tag, a Call-ID or a branch that nobody can guess.
func token() string { return strings.ToLower(rand.Text()) }

// parts are what one request is written from. All values are those of headers, without line ends.
type parts struct {
	method  string
	uri     string
	routes  []string // URIs
	from    string
	to      string
	callID  string
	cseq    uint32
	contact string   // header value; "": none
	headers []string // further whole headers: "Authorization: …"
	sdp     []byte   // body; nil: none
}

// build writes the request and reads it back with the judgement that every other message meets.
func (p *Phone) build(r parts) (*sip.Request, error) {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	line("%s %s SIP/2.0", r.method, r.uri)
	line("Via: SIP/2.0/UDP %s;branch=z9hG4bK%s;rport", p.host, token())
	line("Max-Forwards: 70")
	for _, route := range r.routes {
		line("Route: <%s>", route)
	}
	line("From: %s", r.from)
	line("To: %s", r.to)
	line("Call-ID: %s", r.callID)
	line("CSeq: %d %s", r.cseq, r.method)
	if r.contact != "" {
		line("Contact: %s", r.contact)
	}
	for _, h := range r.headers {
		line("%s", h)
	}
	if r.method == "INVITE" {
		line("Allow: %s", allow)
	}
	if r.sdp != nil {
		line("Content-Type: application/sdp")
	}
	line("Content-Length: %d\r\n", len(r.sdp))
	b.Write(r.sdp)
	m, err := message.Parse([]byte(b.String()), false)
	if err != nil {
		return nil, fmt.Errorf("write %s %s: %w", r.method, r.uri, err)
	}
	return m.(*sip.Request), nil
}

// outboundRoute is the route set of a request outside a dialog: the proxy (RFC 3261 §8.1.2).
func (p *Phone) outboundRoute() []string {
	return []string{"sip:" + p.cfg.Outbound + ";transport=udp;lr"}
}

// maxTries is how often one request is sent when it is challenged: once without and twice with an answer, the second
// time because a nonce may have become stale.
const maxTries = 3

// do sends a request that is no INVITE and returns the final response. build is called for every try with the headers
// that answer the challenge.
func (p *Phone) do(ctx context.Context, f flow.Flow, build func(auth []string) (*sip.Request, error)) (*sip.Response, error) {
	var auth []string
	for try := 1; ; try++ {
		req, err := build(auth)
		if err != nil {
			return nil, err
		}
		res, err := p.roundTrip(ctx, f, req)
		if err != nil {
			return nil, err
		}
		if !challenged(res) || try == maxTries {
			return res, nil
		}
		if auth, err = p.authorize(req, res); err != nil {
			return res, nil // the status says enough
		}
	}
}

// result is how a transaction ended.
type result struct {
	res *sip.Response
	err error
}

// awaited is the handler of a transaction somebody waits for.
type awaited chan result

func (a awaited) post(r result) {
	select {
	case a <- r:
	default: // there is only one final result
	}
}

func (a awaited) HandleResponse(_ *transaction.Client, res *sip.Response) {
	if res.StatusCode >= 200 {
		a.post(result{res: res})
	}
}
func (a awaited) HandleTimeout(c *transaction.Client) {
	a.post(result{err: &StatusError{Method: string(c.Request().Method), Status: 408, Reason: "no answer"}})
}
func (a awaited) HandleTransportError(_ *transaction.Client, err error) { a.post(result{err: err}) }

func (p *Phone) roundTrip(ctx context.Context, f flow.Flow, req *sip.Request) (*sip.Response, error) {
	a := make(awaited, 1)
	if _, err := p.layer.Request(f, req, a); err != nil {
		return nil, err
	}
	select {
	case r := <-a:
		return r.res, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w", req.Method, context.Cause(ctx))
	case <-p.ctx.Done():
		return nil, ErrClosed
	}
}

// statusError is nil for a 2xx.
func statusError(method string, res *sip.Response) error {
	if res.StatusCode >= 200 && res.StatusCode < 300 {
		return nil
	}
	return &StatusError{Method: method, Status: res.StatusCode, Reason: res.Reason}
}
