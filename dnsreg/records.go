package dnsreg

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"p2psip/overlay"
)

// Transport is one that a proxy peer is reached by (RFC 3263 §4.1).
type Transport string

// The transports that are registered.
const (
	UDP Transport = "udp"
	TCP Transport = "tcp"
	TLS Transport = "tls"
)

// service says how a transport stands in the DNS: its NAPTR service field, and the names of its SRV records.
type service struct {
	naptr string
	srv   []string // the first is the one that the NAPTR points to
}

// services are all names below the overlay identifier that SRV records are made for. _sipfederationtls._tcp is what
// federations of Microsoft's and Cisco's making ask for.
var services = map[Transport]service{
	UDP: {"SIP+D2U", []string{"_sip._udp"}},
	TCP: {"SIP+D2T", []string{"_sip._tcp"}},
	TLS: {"SIPS+D2T", []string{"_sips._tcp", "_sipfederationtls._tcp"}},
}

// Endpoint is one socket of a proxy peer.
type Endpoint struct {
	Transport Transport
	Addr      netip.AddrPort
}

// Peer is a proxy peer that has been let in.
type Peer struct {
	Node      overlay.NodeID
	Endpoints []Endpoint
	Capacity  uint32 // in calls; only the proportion between peers counts
	Load      uint16 // thousandths of the capacity
}

// Defaults of Config, and its bounds.
const (
	DefaultTTL      = 60 * time.Second // a dead peer is named no longer than this after it was taken out
	DefaultMaxPeers = 8                // SRV answers of so many fit into 1,232 octets, the usual limit of a UDP answer
	DefaultRotation = time.Hour
	maxTTL          = 60 * time.Second
	maxPeers        = 64
	maxEndpoints    = 8 // of one peer
)

// Config says what the records are to be like. A zero field means its default.
type Config struct {
	OID overlay.ID
	TTL time.Duration // of every record, at most 60 s
	// Transports gives those to register, the preferred one first; UDP, TCP, TLS.
	Transports []Transport
	// MaxPeers is how many proxy peers are named at a time. Of more than that each has its turn, for Rotation.
	MaxPeers int
	Rotation time.Duration
}

func (c Config) withDefaults() Config {
	if c.TTL == 0 {
		c.TTL = DefaultTTL
	}
	if len(c.Transports) == 0 {
		c.Transports = []Transport{UDP, TCP, TLS}
	}
	if c.MaxPeers == 0 {
		c.MaxPeers = DefaultMaxPeers
	}
	if c.Rotation == 0 {
		c.Rotation = DefaultRotation
	}
	return c
}

// Validate says what is wrong with a configuration.
func (c Config) Validate() error {
	if _, err := overlay.ParseID(string(c.OID), false); err != nil {
		return fmt.Errorf("the overlay identifier cannot be registered in the DNS: %w", err)
	}
	c = c.withDefaults()
	switch {
	case c.TTL < time.Second || c.TTL > maxTTL:
		return fmt.Errorf("a TTL of %v: it has to be from 1 s to %v, or the zone would name dead proxy peers for longer", c.TTL, maxTTL)
	case c.MaxPeers < 1 || c.MaxPeers > maxPeers:
		return fmt.Errorf("%d proxy peers in the zone at a time: 1 to %d are possible", c.MaxPeers, maxPeers)
	case c.Rotation < time.Minute:
		return fmt.Errorf("proxy peers that take turns every %v: resolvers keep answers for about as long; a minute is the least", c.Rotation)
	}
	for i, t := range c.Transports {
		if _, ok := services[t]; !ok {
			return fmt.Errorf("unknown transport %q; the transports are udp, tcp and tls", t)
		}
		if slices.Contains(c.Transports[:i], t) {
			return fmt.Errorf("the transport %s is named twice", t)
		}
	}
	return nil
}

// Set is a record set: what should be in the zone, sorted. Weights remembers what each peer was given, so that small
// changes do not change the records.
type Set struct {
	Records []dns.RR
	Weights map[overlay.NodeID]uint16
	Named   []overlay.NodeID // the peers that Records speak of, sorted
}

// HostLabel gives the label below the overlay identifier under which a peer's addresses stand: "p" and 20 base-32 digits
// of the key's hash, so that no peer has a say in it.
func HostLabel(n overlay.NodeID) string {
	sum := sha256.Sum256([]byte("p2psip dns host\x00" + string(n)))
	return "p" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]))[:20]
}

// Desired gives the records for the peers that have been let in. before is the set of the last time, its zero value if there
// is none. Peers without an endpoint that can be registered are passed over; of two with the same identifier, the first counts.
func Desired(c Config, peers []Peer, before Set, now time.Time) (Set, error) {
	if err := c.Validate(); err != nil {
		return Set{}, err
	}
	c = c.withDefaults()
	chosen := choose(c, peers, now)
	b := builder{c: c, zone: dns.Fqdn(string(c.OID)), ttl: uint32(c.TTL / time.Second)}
	out := Set{Weights: make(map[overlay.NodeID]uint16, len(chosen))}
	for _, p := range chosen {
		out.Weights[p.Node] = steady(weight(p), before.Weights[p.Node])
		out.Named = append(out.Named, p.Node)
	}
	slices.Sort(out.Named)
	for _, p := range chosen {
		b.peer(p, out.Weights[p.Node])
	}
	b.naptr()
	slices.SortFunc(b.records, compareRR)
	out.Records = slices.CompactFunc(b.records, func(x, y dns.RR) bool { return dns.IsDuplicate(x, y) })
	return out, nil
}

// choose gives the peers that are named now. Each has a lot for every Rotation, which nobody can choose; those with the best
// lots are in. The lots are drawn for each peer at another moment of the period, so that the zone changes by one peer at a time.
func choose(c Config, peers []Peer, now time.Time) []Peer {
	var usable []Peer
	seen := map[overlay.NodeID]bool{}
	for _, p := range peers {
		if !seen[p.Node] && len(endpoints(c, p)) > 0 {
			seen[p.Node] = true
			usable = append(usable, p)
		}
	}
	lots := make(map[overlay.NodeID]uint64, len(usable))
	for _, p := range usable {
		lots[p.Node] = lot(c, p.Node, now)
	}
	slices.SortFunc(usable, func(a, b Peer) int {
		return cmp.Or(cmp.Compare(lots[a.Node], lots[b.Node]), cmp.Compare(a.Node, b.Node))
	})
	return usable[:min(len(usable), c.MaxPeers)]
}

func lot(c Config, n overlay.NodeID, now time.Time) uint64 {
	phase := sha256.Sum256([]byte("phase\x00" + string(n)))
	shift := int64(binary.BigEndian.Uint64(phase[:]) % uint64(c.Rotation))
	period := (now.UnixNano() + shift) / int64(c.Rotation)
	sum := sha256.Sum256(fmt.Appendf(nil, "lot\x00%s\x00%s\x00%d", c.OID, n, period))
	return binary.BigEndian.Uint64(sum[:])
}

// endpoints gives the sockets of a peer that can stand in a zone, one for each transport and address family.
func endpoints(c Config, p Peer) (out []Endpoint) {
	for _, t := range c.Transports {
		var four, six bool
		for _, e := range p.Endpoints[:min(len(p.Endpoints), maxEndpoints)] {
			e.Addr = netip.AddrPortFrom(e.Addr.Addr().Unmap(), e.Addr.Port())
			if e.Transport != t || !e.Addr.IsValid() || e.Addr.Port() == 0 || e.Addr.Addr().Zone() != "" || e.Addr.Addr().IsUnspecified() {
				continue
			}
			if is4 := e.Addr.Addr().Is4(); is4 && !four {
				four, out = true, append(out, e)
			} else if !is4 && !six {
				six, out = true, append(out, e)
			}
		}
	}
	return out
}

// maxWeight is the SRV weight of a peer with no load, if there is none with more capacity.
const maxWeight = 1 << 10

// weight turns what a peer can still carry into an SRV weight: the proportion to others counts, from 1 to maxWeight.
func weight(p Peer) uint16 {
	free := uint64(p.Capacity) * uint64(1000-min(p.Load, 1000)) / 1000
	return uint16(min(max(free, 1), maxWeight))
}

// steady keeps a weight until it has changed by more than a half, either way.
func steady(now, before uint16) uint16 {
	if before != 0 && 2*uint32(now) <= 3*uint32(before) && 3*uint32(now) >= 2*uint32(before) {
		return before
	}
	return now
}

// builder collects records.
type builder struct {
	c       Config
	zone    string
	ttl     uint32
	records []dns.RR
	have    [3]bool // by place in c.Transports
}

func (b *builder) header(name string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: b.ttl}
}

// peer makes the records of one proxy peer. Where its transports use different addresses, each address has its host name.
func (b *builder) peer(p Peer, w uint16) {
	type place struct {
		t    Transport
		port uint16
	}
	hosts := map[netip.Addr]string{}
	var base string
	eps := endpoints(b.c, p)
	at := map[place][]netip.Addr{}
	var order []place
	for _, e := range eps {
		k := place{e.Transport, e.Addr.Port()}
		if at[k] == nil {
			order = append(order, k)
		}
		at[k] = append(at[k], e.Addr.Addr())
	}
	base = HostLabel(p.Node) + "." + b.zone
	for _, k := range order {
		// One name for the addresses of a place, if no other place uses another address of the same family.
		name := base
		for _, a := range at[k] {
			if !b.alone(eps, a) {
				name = fmt.Sprintf("%s-%s%d.%s", HostLabel(p.Node), k.t, k.port, b.zone)
			}
		}
		for _, a := range at[k] {
			if hosts[a] == name {
				continue
			}
			hosts[a] = name
			if a.Is4() {
				b.records = append(b.records, &dns.A{Hdr: b.header(name, dns.TypeA), A: a.AsSlice()})
			} else {
				b.records = append(b.records, &dns.AAAA{Hdr: b.header(name, dns.TypeAAAA), AAAA: a.AsSlice()})
			}
		}
		for _, s := range services[k.t].srv {
			owner := s + "." + b.zone
			b.records = append(b.records, &dns.SRV{Hdr: b.header(owner, dns.TypeSRV), Priority: 10, Weight: w, Port: k.port, Target: name})
		}
		b.have[slices.Index(b.c.Transports, k.t)] = true
	}
}

// alone says that a is the only address of its family among a peer's endpoints.
func (b *builder) alone(eps []Endpoint, a netip.Addr) bool {
	for _, e := range eps {
		if o := e.Addr.Addr(); o.Is4() == a.Is4() && o != a {
			return false
		}
	}
	return true
}

// naptr makes the records at the overlay identifier itself, for the transports that somebody speaks.
func (b *builder) naptr() {
	for i, t := range b.c.Transports {
		if !b.have[i] {
			continue
		}
		s := services[t]
		b.records = append(b.records, &dns.NAPTR{Hdr: b.header(b.zone, dns.TypeNAPTR), Order: 10, Preference: uint16(10 * (i + 1)),
			Flags: "s", Service: s.naptr, Replacement: s.srv[0] + "." + b.zone})
	}
}

// compareRR orders records as people read them: by name, type and text.
func compareRR(a, b dns.RR) int {
	ha, hb := a.Header(), b.Header()
	return cmp.Or(cmp.Compare(ha.Name, hb.Name), cmp.Compare(ha.Rrtype, hb.Rrtype), strings.Compare(a.String(), b.String()))
}

// ErrBadService: the URI of an advertised service is none that could stand in a zone.
var ErrBadService = errors.New("not a SIP URI with a numeric host")

// ParseService reads a service of an advertisement, "sip:192.0.2.1:5060;transport=udp" or "sips:[2001:db8::1]:5061".
func ParseService(uri string) (Endpoint, error) {
	scheme, rest, ok := strings.Cut(uri, ":")
	at, params, _ := strings.Cut(rest, ";")
	e := Endpoint{Transport: UDP}
	bad := func() (Endpoint, error) { return Endpoint{}, fmt.Errorf("%w: %.80q", ErrBadService, uri) }
	if !ok || len(uri) > 128 {
		return bad()
	}
	switch strings.ToLower(scheme) {
	case "sip":
	case "sips":
		e.Transport = TLS
	default:
		return bad()
	}
	for params != "" {
		var p string
		p, params, _ = strings.Cut(params, ";")
		name, v, _ := strings.Cut(strings.ToLower(p), "=")
		if name != "transport" {
			continue
		}
		t := Transport(v)
		if _, known := services[t]; !known || e.Transport == TLS && t == UDP {
			return bad()
		}
		if e.Transport != TLS {
			e.Transport = t
		}
	}
	var err error
	if e.Addr, err = netip.ParseAddrPort(at); err != nil {
		host := strings.TrimSuffix(strings.TrimPrefix(at, "["), "]")
		a, err := netip.ParseAddr(host)
		if err != nil {
			return bad()
		}
		port := uint16(5060)
		if e.Transport == TLS {
			port = 5061
		}
		e.Addr = netip.AddrPortFrom(a, port)
	}
	if e.Addr.Port() == 0 || e.Addr.Addr().Zone() != "" {
		return bad()
	}
	return e, nil
}
