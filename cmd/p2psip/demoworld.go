package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"p2psip/interwork/locate"
	"p2psip/interwork/locate/zone"
	"p2psip/interwork/phone"
	"p2psip/sim/public"
)

// demoProvider is the domain of the public side in the flows of the draft.
const demoProvider = "provider.example"

// outside is the public side of a flow: name servers for the domains of the provider and of the overlay, the provider, and
// carol's phone. All of it is on loopback, and knows nothing of the overlay but its name.
type outside struct {
	dns      *zone.Server
	provider *public.Provider
	carol    *phone.Phone
	incoming chan *phone.Call // carol's
	asked    *questions
}

// questions are those that the name server was asked.
type questions struct {
	mu   sync.Mutex
	list []string // guarded by mu: "NAPTR provider.example."
}

func (q *questions) add(x dns.Question) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.list = append(q.list, dns.TypeToString[x.Qtype]+" "+x.Name)
}

func (q *questions) has(s string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Contains(q.list, s)
}

// newOutside starts the public side. doors are the public addresses of the overlay's proxy peers, which the DNS tells.
func newOutside(socket net.PacketConn, nameSocket net.PacketConn, doors []netip.AddrPort, w *witness, log *slog.Logger) (_ *outside, err error) {
	o := &outside{incoming: make(chan *phone.Call, 4), asked: &questions{}}
	defer func() {
		if err != nil {
			o.close()
		}
	}()
	at := socket.LocalAddr().(*net.UDPAddr).AddrPort()
	var text strings.Builder
	for domain, servers := range map[string][]netip.AddrPort{demoProvider: {at}, demoOverlay: doors} {
		fmt.Fprintf(&text, "%[1]s. 300 SOA ns.%[1]s. hostmaster.%[1]s. 1 3600 600 86400 60\n%[2]s\n", domain, strings.Join(public.Servers(domain, servers), "\n"))
	}
	z, err := zone.Parse(text.String())
	if err != nil {
		return nil, err
	}
	o.dns = zone.Serve(nameSocket, nil, z, func(_ string, q dns.Question) { o.asked.add(q) })
	resolver, err := locate.NewResolver(locate.ResolverConfig{Servers: []string{nameSocket.LocalAddr().String()}})
	if err != nil {
		return nil, err
	}
	locator, err := locate.New(locate.Config{Resolver: resolver, Transports: []string{locate.UDP}})
	if err != nil {
		return nil, err
	}
	if o.provider, err = public.New(public.Config{
		Domain: demoProvider, Socket: socket, Locator: locator, Patience: 2 * time.Second, Logger: log, Trace: w.provider,
	}); err != nil {
		return nil, err
	}
	o.provider.Add("carol", "carol's password")
	o.provider.Add("alice", "alice's password")
	ring := phone.AnswerAfter(200 * time.Millisecond)
	if o.carol, err = demoPhone(phone.Config{
		AOR: "sip:carol@" + demoProvider, Outbound: at.String(), Password: "carol's password", ToneHz: bobHz, Logger: log, Trace: w.carol,
		Incoming: func(c *phone.Call) {
			ring(c)
			select {
			case o.incoming <- c:
			default:
			}
		},
	}); err != nil {
		return nil, err
	}
	w.meet(o.carol)
	return o, nil
}

// demoPhone makes a phone with a socket on loopback.
func demoPhone(c phone.Config) (*phone.Phone, error) {
	pc, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("a socket for the phone of %s: %w", c.AOR, err)
	}
	c.Local = pc
	p, err := phone.New(c)
	if err != nil {
		pc.Close()
	}
	return p, err
}

func (o *outside) close() {
	if o.carol != nil {
		o.carol.Close()
	}
	if o.provider != nil {
		o.provider.Close()
	}
	if o.dns != nil {
		o.dns.Close()
	}
}
