package dnsreg

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/netutil"

	"p2psip/interwork/locate/zone"
)

// AuthorityConfig makes an Authority.
type AuthorityConfig struct {
	OID string // the zone is the domain of the overlay identifier, delegated to the nodes that run an Authority
	// Servers are the host names of those nodes, the NS records of the zone: as the parent zone has them.
	Servers []string
	// Hosts are the addresses of servers whose names are inside the zone.
	Hosts  map[string][]netip.Addr
	Mail   string // of the person who answers for the zone, as a domain name; "" for hostmaster.<OID>
	TTL    time.Duration
	Limit  RateLimit
	Logger *slog.Logger
	Now    func() time.Time
}

// Bounds of an Authority.
const (
	maxQuery       = 512              // octets of a query; those that exist have a fifth of it
	maxTCP         = 64               // connections
	tcpIdle        = 10 * time.Second // of a connection
	maxTCPQuery    = 100              // on one connection
	negativeTTL    = 15               // seconds that resolvers keep "there is none" (RFC 2308)
	udpAnswer      = 1232             // octets; more is truncated
	readBufferSize = 1 << 20
)

// Authority is an authoritative name server for the domain of the overlay, fed with what Desired gives: UDP and TCP, EDNS
// (RFC 6891), negative answers with SOA (RFC 2308), no transfers (RFC 5936 §6: REFUSED), no recursion, ANY with as little
// as RFC 8482 allows.
type Authority struct {
	c     AuthorityConfig
	log   *slog.Logger
	now   func() time.Time
	limit *limiter
	zone  atomic.Pointer[zone.Zone]

	mu      sync.Mutex // guards all below
	serial  uint32
	text    string // of the records published last
	closers []func() error
	wg      sync.WaitGroup
	closed  bool

	answered, dropped, truncated atomic.Uint64
}

// NewAuthority makes a server whose zone is empty but for SOA and NS.
func NewAuthority(c AuthorityConfig) (*Authority, error) {
	if c.TTL == 0 {
		c.TTL = DefaultTTL
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if len(c.Servers) == 0 || len(c.Servers) > 13 {
		return nil, fmt.Errorf("a zone needs 1 to 13 name servers, not %d: the host names that the parent zone delegates to", len(c.Servers))
	}
	for _, s := range append([]string{c.OID}, c.Servers...) {
		if _, ok := dns.IsDomainName(s); !ok || strings.ContainsAny(s, " \t\n;()\"\\$@") {
			return nil, fmt.Errorf("%q is no host name", s)
		}
	}
	if c.Mail == "" {
		c.Mail = "hostmaster." + c.OID
	}
	a := &Authority{c: c, log: c.Logger, now: c.Now, limit: newLimiter(c.Limit)}
	return a, a.Publish(nil)
}

// Publish replaces the records of the zone. The serial number rises when they are others than before; it follows the
// clock, so that it rises over restarts too.
func (a *Authority) Publish(records []dns.RR) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var b strings.Builder
	for _, rr := range records {
		b.WriteString(rr.String() + "\n")
	}
	text := b.String()
	if a.zone.Load() != nil && text == a.text {
		return nil
	}
	serial := max(uint32(a.now().Unix()), a.serial+1)
	origin := dns.Fqdn(a.c.OID)
	ttl := int(a.c.TTL / time.Second)
	head := fmt.Sprintf("%s %d IN SOA %s %s %d 3600 600 604800 %d\n", origin, ttl, dns.Fqdn(a.c.Servers[0]), dns.Fqdn(a.c.Mail), serial, negativeTTL)
	for _, s := range a.c.Servers {
		head += fmt.Sprintf("%s %d IN NS %s\n", origin, ttl, dns.Fqdn(s))
		if !dns.IsSubDomain(origin, dns.Fqdn(s)) {
			continue
		}
		for _, h := range a.c.Hosts[s] {
			kind := "AAAA"
			if h = h.Unmap(); h.Is4() {
				kind = "A"
			}
			head += fmt.Sprintf("%s %d IN %s %s\n", dns.Fqdn(s), ttl, kind, h)
		}
	}
	z, err := zone.Parse(head + text)
	if err != nil {
		return fmt.Errorf("the zone %s: %w", a.c.OID, err)
	}
	a.zone.Store(z)
	a.serial, a.text = serial, text
	return nil
}

// ServeUDP answers on a socket, which it owns from then on.
func (a *Authority) ServeUDP(pc net.PacketConn) error {
	if !a.open(pc.Close) {
		return errors.Join(errors.New("the name server has been closed"), pc.Close())
	}
	if u, ok := pc.(*net.UDPConn); ok {
		_ = u.SetReadBuffer(readBufferSize)
	}
	go func() {
		defer a.wg.Done()
		buf := make([]byte, maxQuery+1)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				if errors.Is(err, net.ErrClosed) {
					return
				}
				continue // an ICMP error of somebody who did not wait
			}
			a.datagram(pc, from, buf[:n])
		}
	}()
	return nil
}

// datagram answers one query. A panic costs that query.
func (a *Authority) datagram(pc net.PacketConn, from net.Addr, b []byte) {
	defer func() {
		if recover() != nil {
			a.dropped.Add(1)
		}
	}()
	at, err := netip.ParseAddrPort(from.String())
	if err != nil || at.Port() == 0 || len(b) > maxQuery {
		a.dropped.Add(1)
		return
	}
	m := a.judge("udp", b)
	if m == nil {
		a.dropped.Add(1)
		return
	}
	switch a.limit.allow(at.Addr(), a.now()) {
	case drop:
		a.dropped.Add(1)
		return
	case slip: // an empty answer that is no larger than the question; a real resolver asks again over TCP
		m.Truncated = true
		m.Answer, m.Ns, m.Extra = nil, nil, nil
		a.truncated.Add(1)
	}
	out, err := m.Pack()
	if err != nil {
		a.dropped.Add(1)
		return
	}
	a.answered.Add(1)
	_, _ = pc.WriteTo(out, from)
}

// judge makes the answer to the octets of a query; nil says nothing.
func (a *Authority) judge(network string, b []byte) *dns.Msg {
	q := new(dns.Msg)
	if err := q.Unpack(b); err != nil {
		if len(b) < 12 || b[2]&0x80 != 0 {
			return nil // no header, or itself a response
		}
		head := new(dns.Msg)
		head.Id = uint16(b[0])<<8 | uint16(b[1])
		head.Response, head.Rcode, head.Opcode = true, dns.RcodeFormatError, int(b[2]>>3)&0xf
		return head
	}
	if q.Response {
		return nil
	}
	m := a.answer(network, q)
	m.Compress = true
	return m
}

// answer makes the answer to a query that was read.
func (a *Authority) answer(network string, q *dns.Msg) *dns.Msg {
	refuse := func(code int) *dns.Msg { return new(dns.Msg).SetRcode(q, code) }
	switch {
	case q.Opcode != dns.OpcodeQuery:
		return refuse(dns.RcodeNotImplemented)
	case len(q.Question) != 1 || len(q.Answer) > 0 || len(q.Ns) > 0 || len(q.Extra) > 2:
		return refuse(dns.RcodeFormatError)
	}
	opt := q.IsEdns0()
	if opt != nil && opt.Version() != 0 {
		m := refuse(dns.RcodeSuccess)
		m.SetEdns0(udpAnswer, false)
		m.IsEdns0().SetExtendedRcode(dns.RcodeBadVers)
		m.Rcode = dns.RcodeBadVers
		return m
	}
	switch q.Question[0].Qtype {
	case dns.TypeAXFR, dns.TypeIXFR:
		return refuse(dns.RcodeRefused)
	case dns.TypeANY:
		m := a.zone.Load().Answer(network, &dns.Msg{MsgHdr: q.MsgHdr, Question: []dns.Question{{Name: q.Question[0].Name, Qtype: dns.TypeNAPTR, Qclass: q.Question[0].Qclass}}})
		m.Question = q.Question
		if m.Rcode == dns.RcodeSuccess {
			m.Answer, m.Ns, m.Extra = []dns.RR{&dns.HINFO{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeHINFO, Class: dns.ClassINET, Ttl: 3600}, Cpu: "RFC8482"}}, nil, nil
		}
		return m
	}
	m := a.zone.Load().Answer(network, q)
	m.RecursionAvailable = false
	return m
}

// ServeTCP answers on a listener, which it owns from then on.
func (a *Authority) ServeTCP(ln net.Listener) error {
	ln = netutil.LimitListener(ln, maxTCP)
	server := &dns.Server{
		Listener: ln, ReadTimeout: tcpIdle, WriteTimeout: tcpIdle, IdleTimeout: func() time.Duration { return tcpIdle }, MaxTCPQueries: maxTCPQuery,
		MsgAcceptFunc: func(h dns.Header) dns.MsgAcceptAction {
			if h.Bits&(1<<15) != 0 {
				return dns.MsgIgnore
			}
			return dns.MsgAccept
		},
		Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			m := a.answer("tcp", q)
			m.Compress = true
			a.answered.Add(1)
			_ = w.WriteMsg(m)
		}),
	}
	started := make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	if !a.open(server.Shutdown) {
		return errors.Join(errors.New("the name server has been closed"), ln.Close())
	}
	ended := make(chan error, 1)
	go func() {
		defer a.wg.Done()
		ended <- server.ActivateAndServe()
	}()
	select {
	case <-started:
		return nil
	case err := <-ended:
		return err
	}
}

// open notes what Close has to close, and counts the goroutine that goes with it.
func (a *Authority) open(closer func() error) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	a.closers = append(a.closers, closer)
	a.wg.Add(1)
	return true
}

// Close ends the server and waits for it.
func (a *Authority) Close() error {
	a.mu.Lock()
	closers := a.closers
	a.closed, a.closers = true, nil
	a.mu.Unlock()
	var errs []error
	for _, c := range closers {
		errs = append(errs, c())
	}
	a.wg.Wait()
	return errors.Join(errs...)
}

// AuthorityStats counts queries.
type AuthorityStats struct {
	Answered, Dropped, Truncated uint64
	Serial                       uint32
}

// Stats gives what has been counted.
func (a *Authority) Stats() AuthorityStats {
	a.mu.Lock()
	defer a.mu.Unlock()
	return AuthorityStats{Answered: a.answered.Load(), Dropped: a.dropped.Load(), Truncated: a.truncated.Load(), Serial: a.serial}
}
