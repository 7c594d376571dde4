package proxypeer

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
	"p2psip/interwork/proxy"
)

// gate stands between the public sockets and the rest of the node: it lets a source in at the rate that it may have.
type gate struct {
	p    *Peer
	next flow.Handler
}

var (
	_ flow.Handler            = (*gate)(nil)
	_ flow.UnreachableHandler = (*gate)(nil)
)

// scanners are User-Agents of programs that look for numbers to call at others' expense, in lower case. Nobody in his right
// mind keeps these names, so it is only the crowd that is kept off the log and the overlay.
var scanners = []string{"friendly-scanner", "sipvicious", "sip-scan", "sundayddr", "sipsak-scan", "iwar", "sip-fuzz", "pplsip", "vaxsipuseragent", "friendly-request", "eyebeam-scan", "siparmyknife", "smap"}

// HandleMessage implements flow.Handler.
func (g *gate) HandleMessage(f flow.Flow, m sip.Message) {
	f = g.p.wrap(f)
	req, ok := m.(*sip.Request)
	if !ok {
		g.next.HandleMessage(f, m)
		return
	}
	p, now, host := g.p, time.Now(), f.Remote().Host
	p.stats.requests.Add(1)
	if scanner(req) {
		p.stats.scanners.Add(1)
		return
	}
	if !f.Reliable() {
		tag, _ := req.To().Params.Get("tag")
		p.sources.believes(host, tag, now)
	}
	switch p.sources.ask(host, req, now) {
	case let:
		g.next.HandleMessage(f, m)
	case slow:
		p.stats.limited.Add(1)
		res := message.NewResponse(req, 503, "Service Unavailable")
		res.AppendHeader(sip.NewHeader("Retry-After", strconv.Itoa(10)))
		_ = f.Send(message.Bytes(res))
	default:
		p.stats.limited.Add(1)
	}
}

// scanner says whether a request names one of the scanners.
func scanner(req *sip.Request) bool {
	for _, h := range req.Headers() {
		if name := h.Name(); len(name) == len("User-Agent") && strings.EqualFold(name, "User-Agent") {
			agent := strings.ToLower(h.Value())
			for _, s := range scanners {
				if strings.Contains(agent, s) {
					return true
				}
			}
		}
	}
	return false
}

// HandleMalformed implements flow.Handler.
func (g *gate) HandleMalformed(f flow.Flow, e *message.Error) { g.next.HandleMalformed(f, e) }

// HandleClosed implements flow.Handler.
func (g *gate) HandleClosed(f flow.Flow) { g.next.HandleClosed(f) }

// HandleUnreachable implements flow.UnreachableHandler.
func (g *gate) HandleUnreachable(f flow.Flow, err error) {
	if h, ok := g.next.(flow.UnreachableHandler); ok {
		h.HandleUnreachable(g.p.wrap(f), err)
	}
}

// guarded is a UDP flow of the public side: it keeps responses small as long as their source has not shown that it hears.
// Two values for one place are equal, as flow.Flow demands.
type guarded struct {
	flow.Flow
	p *Peer
}

func (p *Peer) guarded(f flow.Flow) flow.Flow { return guarded{f, p} }

func (p *Peer) wrap(f flow.Flow) flow.Flow {
	if f.Reliable() {
		return f
	}
	return p.guarded(f)
}

// plain undoes it.
func plain(f flow.Flow) flow.Flow {
	if g, ok := f.(guarded); ok {
		return g.Flow
	}
	return f
}

// Send implements flow.Flow. A response that is withheld counts as lost by the network.
func (g guarded) Send(b []byte) error {
	if status, ok := responseStatus(b); ok {
		a, err := netip.ParseAddr(g.Remote().Host)
		if err == nil && !g.p.sources.mayRespond(a, status, len(b), func() string { return toTag(b) }, time.Now()) {
			g.p.stats.withheld.Add(1)
			return nil
		}
	}
	return g.Flow.Send(b)
}

// responseStatus reads the status line of a message as it travels.
func responseStatus(b []byte) (int, bool) {
	const version = "SIP/2.0 "
	if len(b) < len(version)+3 || string(b[:len(version)]) != version {
		return 0, false
	}
	n, err := strconv.Atoi(string(b[len(version) : len(version)+3]))
	return n, err == nil
}

// toTag finds the tag in the To of a message as this node writes them.
func toTag(b []byte) string {
	i := bytes.Index(b, []byte("\r\nTo: "))
	if i < 0 {
		return ""
	}
	line := b[i+2:]
	if end := bytes.IndexByte(line, '\r'); end >= 0 {
		line = line[:end]
	}
	at := bytes.LastIndex(line, []byte(";tag="))
	if at < 0 {
		return ""
	}
	tag := line[at+len(";tag="):]
	if end := bytes.IndexByte(tag, ';'); end >= 0 {
		tag = tag[:end]
	}
	return string(tag)
}

var _ proxy.Border = (*Peer)(nil)
