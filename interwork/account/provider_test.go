package account

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/authparam"
	"p2psip/interwork/message"
	"p2psip/overlay"
)

const oid = overlay.ID("p2psip.example")

// provider is a scripted registrar behind any number of proxy peers. It checks a digest by itself.
type provider struct {
	t *testing.T

	mu       sync.Mutex
	password string
	realm    string
	nonce    int // of the challenge in force
	uses     int // of that nonce
	dead     map[overlay.NodeID]bool
	script   []func(*sip.Request) *sip.Response // answers before its own
	grant    int                                // seconds; 0: what is asked
	log      []string
	bound    map[string]int // contact to seconds
	lastCSeq uint32
	callIDs  map[string]bool
}

func (p *provider) Send(ctx context.Context, req *sip.Request, through ProxyPeer) (*sip.Response, error) {
	// Over the wire and back, as anything would be.
	via := &sip.ViaHeader{ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: "TLS", Host: "node", Params: sip.HeaderParams{{K: "branch", V: "z9hG4bKx"}}}
	req.PrependHeader(via)
	m, err := message.Parse(message.Bytes(req), false)
	if err != nil {
		p.t.Errorf("not a request: %v\n%s", err, req)
		return nil, err
	}
	req = m.(*sip.Request)
	time.Sleep(50 * time.Millisecond)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead[through.Node] {
		p.log = append(p.log, "lost at "+string(through.Node))
		return nil, errors.New("no answer")
	}
	if c := req.CSeq().SeqNo; c <= p.lastCSeq {
		p.t.Errorf("CSeq %d after %d", c, p.lastCSeq)
	} else {
		p.lastCSeq = c
	}
	p.callIDs[req.CallID().Value()] = true
	res := p.answer(req)
	entry := fmt.Sprintf("%s %d", string(through.Node), res.StatusCode)
	if len(req.GetHeaders("Authorization")) > 0 {
		entry += " auth"
	}
	p.log = append(p.log, entry)
	m, err = message.Parse(message.Bytes(res), false)
	if err != nil {
		p.t.Fatal(err)
	}
	return m.(*sip.Response), nil
}

func (p *provider) answer(req *sip.Request) *sip.Response {
	if len(p.script) > 0 {
		f := p.script[0]
		p.script = p.script[1:]
		if res := f(req); res != nil {
			return res
		}
	}
	if ok, stale := p.authorized(req); !ok {
		res := message.NewResponse(req, 401, "")
		p.nonce++
		p.uses = 0
		res.AppendHeader(sip.NewHeader("WWW-Authenticate", fmt.Sprintf(`Digest realm="%s", nonce="n%d", qop="auth", algorithm=MD5, stale=%v`, p.realm, p.nonce, stale)))
		return res
	}
	c := message.Contacts(req)[0]
	v, _ := c.Params.Get("expires")
	var secs int
	fmt.Sscan(v, &secs)
	if p.grant > 0 && secs > 0 {
		secs = p.grant
	}
	res := message.NewResponse(req, 200, "")
	if secs == 0 {
		delete(p.bound, c.Address.String())
		return res
	}
	p.bound[c.Address.String()] = secs
	for uri, secs := range p.bound {
		res.AppendHeader(sip.NewHeader("Contact", fmt.Sprintf("<%s>;expires=%d", uri, secs)))
	}
	res.AppendHeader(sip.NewHeader("Service-Route", "<sip:out.provider.example;lr>"))
	return res
}

// authorized checks the digest as RFC 7616 §3.4 has it.
func (p *provider) authorized(req *sip.Request) (ok, stale bool) {
	h := req.GetHeader("Authorization")
	if h == nil {
		return false, false
	}
	a, err := authparam.Parse(strings.TrimPrefix(h.Value(), "Digest "))
	if err != nil {
		p.t.Errorf("%q: %v", h.Value(), err)
		return false, false
	}
	hash := func(s string) string { return fmt.Sprintf("%x", md5.Sum([]byte(s))) }
	ha1 := hash(a["username"] + ":" + a["realm"] + ":" + p.password)
	ha2 := hash("REGISTER:" + req.Recipient.String())
	want := hash(strings.Join([]string{ha1, a["nonce"], a["nc"], a["cnonce"], "auth", ha2}, ":"))
	if a["username"] != "alice" || a["response"] != want || a["uri"] != req.Recipient.String() {
		return false, false
	}
	var nc int
	fmt.Sscanf(a["nc"], "%x", &nc)
	if a["nonce"] != fmt.Sprintf("n%d", p.nonce) || nc <= p.uses || len(a["nc"]) != 8 {
		return false, true
	}
	p.uses = nc
	return true, false
}

func (p *provider) take() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.log
	p.log = nil
	return strings.Join(l, ", ")
}

// bench is a Manager with a provider, proxy peers one, two and three, and a clock.
type bench struct {
	t      *testing.T
	p      *provider
	m      *Manager
	store  *Store
	dir    string
	peers  []ProxyPeer
	failed []overlay.NodeID
	phone  bool // alice has one
	narrow bool // one proxy peer is known at a time
	mu     sync.Mutex
}

func (b *bench) Find(ctx context.Context, n int) ([]ProxyPeer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.peers) == 0 {
		return nil, errors.New("nobody offers that")
	}
	if b.narrow {
		for _, p := range b.peers {
			if !slices.Contains(b.failed, p.Node) {
				return []ProxyPeer{p}, nil
			}
		}
		return nil, errors.New("nobody is left")
	}
	return append([]ProxyPeer(nil), b.peers[:min(n, len(b.peers))]...), nil
}

func (b *bench) Failed(n overlay.NodeID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed = append(b.failed, n)
}

func (b *bench) published(overlay.AOR) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.phone
}

func (b *bench) have(phone bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.phone = phone
}

func inBubble(t *testing.T, a Account, test func(b *bench)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, dir: dir, phone: true, p: &provider{t: t, password: "secret", realm: "provider.example", dead: map[overlay.NodeID]bool{}, bound: map[string]int{}, callIDs: map[string]bool{}}}
		for _, n := range []overlay.NodeID{"one", "two", "three"} {
			b.peers = append(b.peers, ProxyPeer{Node: n, Services: []string{"sip:192.0.2.1:5060;transport=udp"}})
		}
		if a.AOR == "" {
			a.AOR = "sip:alice@provider.example"
		}
		a.User, a.Added = "alice", time.Now()
		if a.Password == "" {
			a.Password = "secret"
		}
		var err error
		if b.store, err = Open(dir, oid); err != nil {
			t.Fatal(err)
		}
		if err := b.store.Add(a); err != nil {
			t.Fatal(err)
		}
		b.start()
		test(b)
		b.m.Close()
	})
}

func (b *bench) start() {
	var err error
	b.m, err = New(Config{OID: oid, DataDir: b.dir, Store: b.store, Published: b.published, Peers: b, Sender: b.p,
		Chance: func() float64 { return 0.5 }, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// expect compares what the provider saw since the last time.
func (b *bench) expect(want string) {
	b.t.Helper()
	if got := b.p.take(); got != want {
		b.t.Errorf("the provider saw %q, want %q", got, want)
	}
}

func (b *bench) status() Status {
	b.t.Helper()
	ss, err := b.m.Status()
	if err != nil || len(ss) != 1 {
		b.t.Fatalf("%+v, %v", ss, err)
	}
	return ss[0]
}
