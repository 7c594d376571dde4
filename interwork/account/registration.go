package account

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/message"
	"p2psip/overlay"
)

const (
	// maxRounds bounds the requests of one exchange: a challenge or two of a registrar and a proxy, one gone stale, 423.
	maxRounds = 6
	// maxPeers is through how many proxy peers one attempt goes.
	maxPeers = 3
	// sendTimeout is what one request gets: the longest that a non-INVITE transaction takes (timer F).
	sendTimeout = 35 * time.Second
	// maxServiceRoutes and maxServiceRoute bound what is kept of a Service-Route (RFC 3608).
	maxServiceRoutes = 8
	maxServiceRoute  = 256
)

// binding is one account's registration with its provider (RFC 3261 §10.2): one Call-ID, a CSeq that rises. It belongs to
// the goroutine of the account.
type binding struct {
	c      *Config
	a      Account
	login  *login
	callID string
	cseq   uint32
	ask    time.Duration // what is asked for, after 423 too
}

func newBinding(c *Config, a Account, l *login) *binding {
	return &binding{c: c, a: a, login: l, callID: token(16), ask: a.expires()}
}

// token makes n bytes of chance as text.
func token(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return fmt.Sprintf("%x", b)
}

// granted is what came of a REGISTER.
type granted struct {
	for_    time.Duration
	through ProxyPeer
	contact string
	routes  []string // Service-Route
}

// register goes through an exchange with the provider: to bind the contact for the time asked for, or to take it out. The
// proxy peer last used is tried first, then others.
func (b *binding) register(ctx context.Context, last ProxyPeer, remove bool) (granted, *failure) {
	var worst *failure
	var tried []overlay.NodeID
	for len(tried) < maxPeers {
		p, f := b.next(ctx, last, tried)
		if f != nil {
			if worst == nil {
				worst = f
			}
			break
		}
		g, f := b.through(ctx, p, remove)
		if f == nil {
			return g, nil
		}
		worst, tried = f, append(tried, p.Node)
		if !f.elsewhere || ctx.Err() != nil {
			break
		}
	}
	return granted{}, worst
}

// next gives the proxy peer to try: the one last used, then the best of those that have not been tried. It asks each time,
// as whoever was at hand may have been the one that failed.
func (b *binding) next(ctx context.Context, last ProxyPeer, tried []overlay.NodeID) (ProxyPeer, *failure) {
	peers, err := b.c.Peers.Find(ctx, maxPeers+len(tried))
	peers = slices.DeleteFunc(peers, func(p ProxyPeer) bool { return slices.Contains(tried, p.Node) })
	if err != nil || len(peers) == 0 {
		f := &failure{text: "no proxy peer of the overlay is to be found", hint: hintItself + "; without one nobody outside can be reached"}
		if err != nil {
			f.text += ": " + clip(err.Error())
		}
		return ProxyPeer{}, f
	}
	if i := slices.IndexFunc(peers, func(p ProxyPeer) bool { return p.Node == last.Node }); i >= 0 {
		return peers[i], nil
	}
	return peers[0], nil
}

// through goes through an exchange by way of one proxy peer.
func (b *binding) through(ctx context.Context, p ProxyPeer, remove bool) (granted, *failure) {
	contact, ok := b.contact(p)
	if !ok {
		return granted{}, &failure{text: "the proxy peer " + p.Node.String() + " tells no address for a contact", hint: hintItself, elsewhere: true}
	}
	b.login.begin()
	raised := false
	for range maxRounds {
		ask := b.ask
		if remove {
			ask = 0
		}
		req := b.request(contact, ask)
		sctx, cancel := context.WithTimeout(ctx, sendTimeout)
		res, err := b.c.Sender.Send(sctx, req, p)
		cancel()
		if err != nil {
			if ctx.Err() == nil {
				b.c.Peers.Failed(p.Node)
			}
			return granted{}, &failure{text: "the proxy peer did not pass the registration on: " + clip(err.Error()), hint: hintItself, elsewhere: true}
		}
		switch status := res.StatusCode; {
		case status == 401 || status == 407:
			if err := b.login.take(res); err != nil {
				return granted{}, failureFor(err, res)
			}
		case status == 423 && !raised && !remove:
			least, ok := minExpires(res)
			if !ok || least > MaxExpires {
				return granted{}, &failure{text: "the provider registers only for longer than this node does (423)", hint: "ask the provider", permanent: true}
			}
			raised = true
			b.ask = max(least, b.ask)
		case status >= 200 && status < 300:
			if remove {
				return granted{}, nil
			}
			return b.accepted(res, contact, p)
		default:
			return granted{}, failureOf(res)
		}
	}
	return granted{}, &failure{text: "the provider asks for a password again and again", hint: "ask the provider", permanent: true}
}

// contact gives the Contact to register through a proxy peer.
func (b *binding) contact(p ProxyPeer) (string, bool) {
	if b.a.Contact != ContactAddress {
		return "sip:" + b.a.User + "@" + string(b.c.OID), true
	}
	for _, s := range p.Services {
		u, err := message.ParseURI(s)
		if err != nil || u.Scheme != "sip" || u.User != "" || len(s) > maxText || len(u.Headers) > 0 {
			continue
		}
		u.User = b.a.User
		return u.String(), true
	}
	return "", false
}

// request makes the next REGISTER.
func (b *binding) request(contact string, ask time.Duration) *sip.Request {
	b.cseq++
	uri := b.a.registrar(b.c.OID)
	req := sip.NewRequest(sip.REGISTER, uri)
	add := func(name, format string, args ...any) {
		req.AppendHeader(sip.NewHeader(name, fmt.Sprintf(format, args...)))
	}
	if r := b.a.route(); r != "" {
		add("Route", "%s", r)
	}
	aor := b.a.uri()
	maxForwards := sip.MaxForwardsHeader(70)
	req.AppendHeader(&maxForwards)
	req.AppendHeader(&sip.FromHeader{Address: aor, Params: sip.HeaderParams{{K: "tag", V: token(8)}}})
	req.AppendHeader(&sip.ToHeader{Address: aor})
	id := sip.CallIDHeader(b.callID)
	req.AppendHeader(&id)
	req.AppendHeader(&sip.CSeqHeader{SeqNo: b.cseq, MethodName: sip.REGISTER})
	seconds := strconv.Itoa(int(ask / time.Second))
	add("Contact", "<%s>;expires=%s", contact, seconds)
	add("Expires", "%s", seconds)
	for _, h := range b.login.headers(sip.REGISTER, uri.String()) {
		req.AppendHeader(h)
	}
	if b.c.Agent != "" {
		add("User-Agent", "%s", b.c.Agent)
	}
	req.SetBody(nil)
	return req
}

// accepted reads a 200: for how long our contact is bound.
func (b *binding) accepted(res *sip.Response, contact string, p ProxyPeer) (granted, *failure) {
	g := granted{for_: b.ask, through: p, contact: contact}
	if h := res.GetHeader("Expires"); h != nil {
		if n, err := strconv.ParseUint(strings.TrimSpace(h.Value()), 10, 32); err == nil {
			g.for_ = time.Duration(n) * time.Second
		}
	}
	found := false
	cs := message.Contacts(res)
	for _, c := range cs {
		if !strings.EqualFold(c.Address.Host, hostOf(contact)) || c.Address.User != b.a.User {
			continue
		}
		found = true
		if v, ok := c.Params.Get("expires"); ok {
			if n, err := strconv.ParseUint(v, 10, 32); err == nil {
				g.for_ = time.Duration(n) * time.Second
			}
		}
	}
	switch {
	case !found && len(cs) > 0:
		return g, &failure{text: "the provider registered other contacts than " + contact, hint: "if it takes no domain as a contact, add the account with --contact address", permanent: true}
	case !found:
		// Some registrars list nothing. Nothing speaks against it.
	case g.for_ <= 0:
		return g, &failure{text: "the provider accepted the registration for no time at all", hint: "ask the provider", permanent: true}
	}
	g.for_ = min(g.for_, b.ask)
	for _, h := range res.GetHeaders("Service-Route") {
		for _, u := range routes(h) {
			if len(u) <= maxServiceRoute && len(g.routes) < maxServiceRoutes {
				g.routes = append(g.routes, u)
			}
		}
	}
	return g, nil
}

func hostOf(uri string) string {
	u, _ := message.ParseURI(uri)
	return u.Host
}

// routes gives the values of a header that lists addresses, each in brackets.
func routes(h sip.Header) (out []string) {
	m := sip.NewResponse(200, "")
	m.AppendHeader(h)
	for _, u := range message.Routes(m, h.Name()) {
		out = append(out, "<"+u.String()+">")
	}
	return out
}

func minExpires(res *sip.Response) (time.Duration, bool) {
	h := res.GetHeader("Min-Expires")
	if h == nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(h.Value()), 10, 32)
	return time.Duration(n) * time.Second, err == nil && n > 0
}
