package public

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/locate"
	"p2psip/interwork/message"
	"p2psip/interwork/transaction"
)

// Config makes a Provider.
type Config struct {
	Domain   string
	Socket   net.PacketConn // UDP; the provider closes it
	Locator  *locate.Locator
	Patience time.Duration // how long a server of another domain may be silent before the next one is tried
	Logger   *slog.Logger
	// Trace, when set, sees every SIP message; it must be quick and must not keep m.
	Trace func(out bool, remote string, m sip.Message)
}

// Provider is the registrar and proxy of a domain. Make one with New, end it with Close.
type Provider struct {
	c     Config
	at    netip.AddrPort
	udp   *flow.UDP
	layer *transaction.Layer
	ctx   context.Context
	stop  context.CancelFunc
	wg    sync.WaitGroup

	mu    sync.Mutex
	users map[string]*subscriber // guarded by mu: by user part
	shut  bool                   // guarded by mu
}

// subscriber is a user of the provider.
type subscriber struct {
	password string
	contact  sip.Uri // guarded by Provider.mu, as the next
	until    time.Time
}

var _ transaction.Handler = (*Provider)(nil)

// New starts a provider without users.
func New(c Config) (*Provider, error) {
	udp, ok := c.Socket.LocalAddr().(*net.UDPAddr)
	if !ok {
		return nil, errors.New("a provider wants a UDP socket")
	}
	p := &Provider{c: c, at: udp.AddrPort(), users: map[string]*subscriber{}}
	p.ctx, p.stop = context.WithCancel(context.Background())
	var err error
	o := transaction.Options{Handler: p, Logger: c.Logger}
	if c.Trace != nil {
		o.Trace = func(out bool, f flow.Flow, m sip.Message) { c.Trace(out, f.Remote().String(), m) }
	}
	if p.layer, err = transaction.New(o); err != nil {
		return nil, err
	}
	p.udp = flow.ListenUDP(c.Socket, p.layer, flow.Options{Logger: c.Logger})
	return p, nil
}

// Add gives somebody an address at the provider.
func (p *Provider) Add(user, password string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users[user] = &subscriber{password: password}
}

// Registered says whether a user has a contact at present.
func (p *Provider) Registered(user string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.users[user]
	return u != nil && time.Now().Before(u.until)
}

// Addr gives the address of the provider's server.
func (p *Provider) Addr() netip.AddrPort { return p.at }

// Close ends the provider and waits for all that runs.
func (p *Provider) Close() error {
	p.mu.Lock()
	p.shut = true
	p.mu.Unlock()
	p.stop()
	err := p.udp.Close()
	p.layer.Close()
	p.wg.Wait()
	return err
}

// goes runs f in the background until it ends, unless the provider is closed.
func (p *Provider) goes(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.shut {
		p.wg.Go(f)
	}
}

// HandleRequest takes a new request.
func (p *Provider) HandleRequest(tx *transaction.Server, req *sip.Request) {
	if req.Method == sip.REGISTER && strings.EqualFold(req.Recipient.Host, p.c.Domain) {
		_ = tx.Respond(p.register(req))
		return
	}
	next, status := p.route(req)
	if status != 0 {
		_ = tx.Respond(message.NewResponse(req, status, ""))
		return
	}
	if req.Method == sip.INVITE {
		_ = tx.Respond(message.NewResponse(req, 100, ""))
	}
	c := &carried{p: p, tx: tx, req: req}
	tx.SetUser(c)
	if at, ok := place(next); ok {
		c.begin([]locate.Target{{Transport: locate.UDP, Addr: at}})
		return
	}
	p.goes(func() {
		res, err := p.c.Locator.Locate(p.ctx, next)
		if err != nil {
			p.c.Logger.Debug("not located", "uri", next.String(), "error", err)
		}
		c.begin(res.Targets)
	})
}

// route takes this provider's own Route off and gives the URI of the next hop (§16.4 to §16.6). A request for a user here
// gets the user's contact as its Request-URI.
func (p *Provider) route(req *sip.Request) (next sip.Uri, status int) {
	for _, r := range message.Routes(req, "Route") {
		if !p.own(&r) {
			return r, 0
		}
		message.PopRoute(req)
	}
	if !strings.EqualFold(req.Recipient.Host, p.c.Domain) {
		return req.Recipient, 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.users[req.Recipient.User]
	switch {
	case u == nil:
		return next, 404
	case !time.Now().Before(u.until):
		return next, 480
	}
	req.Recipient = u.contact
	return u.contact, 0
}

func (p *Provider) own(u *sip.Uri) bool {
	at, ok := place(*u)
	return ok && at == p.at || strings.EqualFold(u.Host, p.c.Domain)
}

// place gives the address of a URI that has one.
func place(u sip.Uri) (netip.AddrPort, bool) {
	ip, err := netip.ParseAddr(u.Host)
	if err != nil {
		return netip.AddrPort{}, false
	}
	port := u.Port
	if port <= 0 {
		port = 5060
	}
	return netip.AddrPortFrom(ip, uint16(port)), true
}

// carried is a request on its way through the provider.
type carried struct {
	p   *Provider
	tx  *transaction.Server
	req *sip.Request

	mu        sync.Mutex
	left      []locate.Target     // guarded by mu: not tried yet
	now       locate.Target       // guarded by mu
	client    *transaction.Client // guarded by mu
	heard     bool                // guarded by mu: the present target has answered something
	cancelled bool                // guarded by mu
	done      bool                // guarded by mu: answered
}

var _ transaction.ClientHandler = (*carried)(nil)

func (c *carried) begin(targets []locate.Target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = targets
	c.try(480)
}

// try sends the request to the next target, or answers. c.mu is held.
func (c *carried) try(status int) {
	if c.done {
		return
	}
	if c.cancelled || len(c.left) == 0 {
		if c.cancelled {
			status = 487
		}
		c.done = true
		_ = c.tx.Respond(message.NewResponse(c.req, status, ""))
		return
	}
	c.now, c.left = c.left[0], c.left[1:]
	c.client, c.heard = nil, false
	fwd := c.p.forward(c.req, c.now.Addr)
	if fwd == nil {
		c.done = true
		_ = c.tx.Respond(message.NewResponse(c.req, 483, ""))
		return
	}
	client, err := c.p.layer.Request(c.p.udp.To(c.now.Addr), fwd, c)
	if err != nil {
		c.try(503)
		return
	}
	c.client = client
	if len(c.left) > 0 {
		time.AfterFunc(c.p.c.Patience, func() { c.silent(client) })
	}
}

// forward makes the copy of a request that leaves for a place (§16.6).
func (p *Provider) forward(req *sip.Request, to netip.AddrPort) *sip.Request {
	fwd := message.Clone(req)
	if h := fwd.MaxForwards(); h != nil {
		if h.Val() == 0 {
			return nil
		}
		h.Dec()
	}
	if _, inside := fwd.To().Params.Get("tag"); !inside && fwd.Method == sip.INVITE {
		fwd.PrependHeader(sip.NewHeader("Record-Route", fmt.Sprintf("<sip:%s;lr>", p.at)))
	}
	below, _ := fwd.Via().Params.Get("branch")
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %s %s", below, fwd.Method, to, p.at))
	via := &sip.ViaHeader{
		ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: "UDP", Host: p.at.Addr().String(), Port: int(p.at.Port()),
		Params: sip.HeaderParams{{K: "branch", V: "z9hG4bK" + hex.EncodeToString(sum[:12])}},
	}
	fwd.PrependHeader(via)
	return fwd
}

// silent gives a target up that has said nothing.
func (c *carried) silent(client *transaction.Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != client || c.heard || c.done {
		return
	}
	client.Abandon()
	c.p.c.Locator.Failed(c.now)
	c.try(408)
}

// HandleResponse takes the response of the present target.
func (c *carried) HandleResponse(client *transaction.Client, res *sip.Response) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != nil && c.client != client {
		return
	}
	c.heard = true
	if res.StatusCode == 100 || !message.PopVia(res) || res.Via() == nil {
		return
	}
	if res.StatusCode == 503 && !c.done {
		c.p.c.Locator.Failed(c.now)
		c.try(503)
		return
	}
	if res.StatusCode >= 200 {
		c.done = true
		c.p.c.Locator.Good(c.now)
	}
	_ = c.tx.Respond(res)
}

// HandleTimeout is a target that never answered.
func (c *carried) HandleTimeout(client *transaction.Client) { c.lost(client, 408) }

// HandleTransportError is one that nothing could be sent to.
func (c *carried) HandleTransportError(client *transaction.Client, _ error) { c.lost(client, 503) }

func (c *carried) lost(client *transaction.Client, status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client == client && !c.done {
		c.p.c.Locator.Failed(c.now)
		c.try(status)
	}
}

// HandleCancel gives a call up.
func (p *Provider) HandleCancel(tx *transaction.Server) {
	c, ok := tx.User().(*carried)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancelled = true
	if c.client != nil {
		c.client.Cancel()
	}
}

// HandleAck passes the ACK for a 2xx on (§16.11).
func (p *Provider) HandleAck(_ flow.Flow, req *sip.Request) {
	next, status := p.route(req)
	if status != 0 {
		return
	}
	send := func(at netip.AddrPort) {
		if fwd := p.forward(req, at); fwd != nil {
			_ = p.layer.Send(p.udp.To(at), fwd)
		}
	}
	if at, ok := place(next); ok {
		send(at)
		return
	}
	p.goes(func() {
		if res, err := p.c.Locator.Locate(p.ctx, next); err == nil {
			send(res.Targets[0].Addr)
		}
	})
}

// HandleResponse ignores what is repeated long after.
func (p *Provider) HandleResponse(flow.Flow, *sip.Response) {}

// HandleLost never happens over UDP.
func (p *Provider) HandleLost(*transaction.Server) {}

// HandleFlowClosed never happens over UDP.
func (p *Provider) HandleFlowClosed(flow.Flow) {}
