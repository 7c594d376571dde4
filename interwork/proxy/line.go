package proxy

import (
	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
)

// Lines has requests of phones leave the overlay as another address of their user: one that the user has with a SIP
// provider (draft §4.2). Its methods and those of Line do not block.
type Lines interface {
	// Line says which line a request of a phone takes, nil for none. uri is where it goes, leaves says that this is outside
	// the overlay. The request is not admitted yet, so nothing may be changed by asking.
	Line(req *sip.Request, uri sip.Uri, leaves bool) Line
}

// Line is one request on its way out under another address.
type Line interface {
	// Way gives the Request-URI, without a host to leave it as it is, and Route values to put in front.
	Way() (uri sip.Uri, routes []string)
	// Dress changes the copy that leaves, by replacing headers and never by changing one in place.
	Dress(fwd *sip.Request)
	// Challenged takes a 401 or 407. again asks for the request to be rewritten, dressed and sent once more; otherwise why
	// is what the phone is told.
	Challenged(res *sip.Response) (again bool, why string)
	// Undress gives a response back the From and CSeq that the phone knows.
	Undress(res *sip.Response)
}

// takeLine looks whether a request of a phone takes a line, and decides anew about one that does.
func (c *Core) takeLine(r *request, w way) way {
	if c.cfg.Lines == nil || r.kind != flow.KindEdge || w.kind != toDomain && w.kind != toUser || r.method == sip.REGISTER {
		return w
	}
	l := c.cfg.Lines.Line(r.req, r.uri, w.kind == toDomain)
	if l == nil {
		return w
	}
	uri, routes := l.Way()
	if uri.Host != "" {
		r.uri = uri
	}
	var front []route
	for _, v := range routes {
		var ok bool
		if front, ok = appendRoutes(front, v); !ok {
			return way{kind: refuse, status: 500, reason: "Server Internal Error", warning: "the provider's route cannot be read"}
		}
	}
	r.routes = append(front, r.routes...)
	r.line = l
	return c.decide(r)
}

// challenged answers a challenge for the phone, if the request took a line, by sending it once more. Otherwise it gives the
// response to go on with. Called under x.mu.
func (b *branch) challenged(res *sip.Response) (*sip.Response, bool) {
	x := b.x
	if x.r.line == nil || res.StatusCode != 401 && res.StatusCode != 407 || x.cancelled || x.answered {
		return res, false
	}
	again, why := x.r.line.Challenged(res)
	if !again {
		res = message.NewResponse(x.r.req, 403, "Forbidden")
		res.AppendHeader(x.c.warning(why))
		return res, false
	}
	f := b.client.Flow()
	b.leave(f, x.c.rewrite(x.r, f, &b.target.URI, b.breadth, b.body()))
	x.advance()
	return nil, true
}
