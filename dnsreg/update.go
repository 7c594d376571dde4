package dnsreg

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Key is a TSIG key (RFC 8945) of the zone.
type Key struct {
	Name      string // as the server knows it, "p2psip.example.org"
	Algorithm string // hmac-sha256, hmac-sha384 or hmac-sha512
	Secret    string // base64
}

// algorithms are those that are taken: HMAC-MD5 and SHA-1 are not (RFC 8945 §6).
var algorithms = []string{dns.HmacSHA256, dns.HmacSHA384, dns.HmacSHA512}

// Updater changes a zone on somebody's name server by dynamic update (RFC 2136), over TCP, every message signed both ways.
//
// Beside the records it keeps two names in the zone:
//
//	_p2psip.<OID>      TXT "v=1" "serial=17" "by=<registrar>"      replaced with every update
//	_p2psip-own.<OID>  TXT "_sip._udp SRV 10 8 5060 p…"            one for each record that is the registrar's
//
// An update requires (RFC 2136 §2.4) that the first is what was read before it: of two registrars the second has to look
// again. It takes out only records that the second names, one by one, and puts new kinds of records only where there are none
// of that name and type, or some of its own: what an operator has written by hand is never touched.
type Updater struct {
	Server  string // address:port; may be a name
	Zone    string // the zone's name; "" for the domain of the overlay identifier
	OID     string
	Key     Key
	By      string        // names this registrar to others and to people, without spaces
	Timeout time.Duration // for one message and its answer; 0: 5 s
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
}

// Reasons for an update that was not made.
var (
	// ErrRace: another registrar, or a person, has changed the zone in between.
	ErrRace = errors.New("the zone has been changed in between by another registrar")
	// ErrForeign: there are records of the same name and type that are not this program's.
	ErrForeign = errors.New("there are records in the zone that this program has not made, and does not touch")
	// ErrClock: the name server's clock and this one are apart.
	ErrClock = errors.New("the clocks of this machine and of the name server are too far apart; set both by NTP")
	// ErrKey: the server does not know the key, or has another secret for it.
	ErrKey = errors.New("the name server does not accept the key; compare its name, algorithm and secret with the server's configuration")
	// ErrUnsigned: what came back was not signed, or not with the key.
	ErrUnsigned = errors.New("the answer is not signed with the key, so it may be anybody's")
	// ErrRefused: the server does not allow this.
	ErrRefused = errors.New("the name server refuses; allow this key to update and query the zone (allow-update or update-policy in BIND, acl in Knot)")
	// ErrNotZone: the server is not the primary of the zone.
	ErrNotZone = errors.New("the server is not the primary name server of the zone")
	// ErrServer: the server is reached and fails.
	ErrServer = errors.New("the name server fails")
	// ErrUnreachable: it is not reached.
	ErrUnreachable = errors.New("the name server is not reached")
)

// Names that an Updater keeps its own notes at, below the overlay identifier.
const (
	serialLabel = "_p2psip"
	ownLabel    = "_p2psip-own"
	maxOwned    = 1024 // records of ours that are read back
)

// Validate says what is wrong.
func (u *Updater) Validate() error {
	if _, _, err := net.SplitHostPort(u.Server); err != nil {
		return fmt.Errorf("the name server %q is no address:port: %w", u.Server, err)
	}
	if !slices.Contains(algorithms, dns.Fqdn(strings.ToLower(u.Key.Algorithm))) {
		return fmt.Errorf("the algorithm %q: those that count as safe are hmac-sha256, hmac-sha384 and hmac-sha512", u.Key.Algorithm)
	}
	if _, ok := dns.IsDomainName(u.Key.Name); !ok || u.Key.Name == "" {
		return fmt.Errorf("%q is no name of a key", u.Key.Name)
	}
	if u.Key.Secret == "" {
		return errors.New("the key has no secret")
	}
	if u.OID == "" || !dns.IsSubDomain(u.zone(), dns.Fqdn(u.OID)) {
		return fmt.Errorf("%q is not in the zone %q", u.OID, u.zone())
	}
	if u.By == "" || len(u.By) > 64 || strings.ContainsAny(u.By, " \"\\") {
		return fmt.Errorf("a registrar cannot call itself %q", u.By)
	}
	return nil
}

func (u *Updater) zone() string {
	if u.Zone == "" {
		return dns.Fqdn(strings.ToLower(u.OID))
	}
	return dns.Fqdn(strings.ToLower(u.Zone))
}

func (u *Updater) name(label string) string { return label + "." + dns.Fqdn(strings.ToLower(u.OID)) }

// Change is what an update changed.
type Change struct {
	Added, Removed []dns.RR
	// Foreign are the names and types where others' records stand, so that ours are not put there: "example.org. NAPTR".
	Foreign []string
}

// Apply makes those records of the zone that are the registrar's the wanted ones. It looks first, so calling it again after any
// error, also one of time, does what is left to do. If others' records stand in the way of some, it does the others and
// gives ErrForeign beside the Change.
func (u *Updater) Apply(ctx context.Context, want []dns.RR) (Change, error) {
	return u.Reconcile(ctx, func(Notes) ([]dns.RR, error) { return want, nil })
}

// Reconcile implements Backend: it is Apply for what follows from what is in the zone.
func (u *Updater) Reconcile(ctx context.Context, wanted func(Notes) ([]dns.RR, error)) (Change, error) {
	now, err := u.read(ctx)
	if err != nil {
		return Change{}, fmt.Errorf("reading the zone %s at %s: %w", u.zone(), u.Server, err)
	}
	want, err := wanted(Notes{Serial: now.number, By: now.by, Own: now.own})
	if err != nil {
		return Change{}, err
	}
	var c Change
	for {
		c.Added, c.Removed = difference(now.own, allowed(want, c.Foreign))
		if len(c.Added)+len(c.Removed) == 0 {
			break
		}
		err := u.update(ctx, now, c)
		if errors.Is(err, ErrForeign) {
			found, look := u.foreign(ctx, now.own, c.Added, c.Foreign)
			if look == nil && len(found) > 0 {
				c.Foreign = append(c.Foreign, found...)
				continue
			}
			if err = look; err == nil {
				err = ErrRace // what stood in the way has gone, or it was the first notes of another registrar
			}
		}
		if err != nil {
			return Change{}, fmt.Errorf("updating the zone %s at %s: %w", u.zone(), u.Server, err)
		}
		break
	}
	if len(c.Foreign) > 0 {
		return c, fmt.Errorf("%w: %s", ErrForeign, strings.Join(c.Foreign, ", "))
	}
	return c, nil
}

// state is what the registrar's notes in the zone say.
type state struct {
	serial dns.RR // nil: there is none yet
	number uint64
	by     string
	own    []dns.RR
}

// read asks for the notes.
func (u *Updater) read(ctx context.Context) (s state, err error) {
	serials, err := u.ask(ctx, u.name(serialLabel), dns.TypeTXT)
	if err != nil {
		return s, err
	}
	for _, rr := range serials {
		t := rr.(*dns.TXT)
		if len(serials) > 1 || len(t.Txt) < 2 || t.Txt[0] != "v=1" {
			return s, fmt.Errorf("%w: %s", ErrForeign, rr)
		}
		s.serial = rr
		for _, f := range t.Txt[1:] {
			if v, ok := strings.CutPrefix(f, "serial="); ok {
				s.number, _ = strconv.ParseUint(v, 10, 63)
			} else if v, ok := strings.CutPrefix(f, "by="); ok {
				s.by = v
			}
		}
	}
	notes, err := u.ask(ctx, u.name(ownLabel), dns.TypeTXT)
	if err != nil {
		return s, err
	}
	for _, rr := range notes[:min(len(notes), maxOwned)] {
		if own, ok := u.owned(rr.(*dns.TXT)); ok {
			s.own = append(s.own, own)
		}
	}
	return s, nil
}

// note gives what stands at ownLabel for a record; owned is the inverse. Only what Desired makes is believed to be ours, so that
// a note that somebody else has put there takes nothing out of the zone but what looks like ours.
func (u *Updater) note(rr dns.RR) dns.RR {
	h := rr.Header()
	host := strings.TrimSuffix(strings.TrimSuffix(h.Name, dns.Fqdn(u.OID)), ".")
	if host == "" {
		host = "@"
	}
	text := host + " " + dns.TypeToString[h.Rrtype] + " " + strconv.Itoa(int(h.Ttl)) + " " + strings.TrimPrefix(rr.String(), h.String())
	return &dns.TXT{Hdr: dns.RR_Header{Name: u.name(ownLabel), Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: h.Ttl},
		Txt: []string{strings.ReplaceAll(text, `"`, "'")}}
}

func (u *Updater) owned(t *dns.TXT) (dns.RR, bool) {
	if len(t.Txt) != 1 {
		return nil, false
	}
	f := strings.SplitN(strings.ReplaceAll(t.Txt[0], "'", `"`), " ", 4)
	if len(f) != 4 || strings.ContainsAny(t.Txt[0], "\\$;()\n") {
		return nil, false
	}
	kind, ok := dns.StringToType[f[1]]
	ttl, err := strconv.ParseUint(f[2], 10, 31)
	if !ok || err != nil || !ours(f[0], kind) {
		return nil, false
	}
	name := dns.Fqdn(u.OID)
	if f[0] != "@" {
		name = f[0] + "." + name
	}
	rr, err := dns.NewRR(fmt.Sprintf("%s %d IN %s %s", name, ttl, f[1], f[3]))
	return rr, err == nil && rr != nil
}

// ours says whether a registrar makes records of that kind at that label.
func ours(label string, kind uint16) bool {
	switch kind {
	case dns.TypeNAPTR:
		return label == "@"
	case dns.TypeSRV:
		for _, s := range services {
			if slices.Contains(s.srv, label) {
				return true
			}
		}
		return false
	case dns.TypeA, dns.TypeAAAA:
		base, _, _ := strings.Cut(label, "-")
		return len(base) == len(HostLabel("")) && base[0] == 'p' && strings.Trim(base[1:], "abcdefghijklmnopqrstuvwxyz234567") == "" &&
			!strings.Contains(label, ".")
	}
	return false
}

// difference gives what has to be added and removed to come from have to want.
func difference(have, want []dns.RR) (add, remove []dns.RR) {
	key := func(rr dns.RR) string { return strings.ToLower(rr.String()) }
	in := func(list []dns.RR) map[string]bool {
		m := make(map[string]bool, len(list))
		for _, rr := range list {
			m[key(rr)] = true
		}
		return m
	}
	had, wanted := in(have), in(want)
	for _, rr := range want {
		if !had[key(rr)] {
			add = append(add, rr)
		}
	}
	for _, rr := range have {
		if !wanted[key(rr)] {
			remove = append(remove, rr)
		}
	}
	return add, remove
}

// set names a record's RRset.
func set(rr dns.RR) string { return rr.Header().Name + " " + dns.TypeToString[rr.Header().Rrtype] }

// allowed gives those of the wanted records that stand in nobody's way. A NAPTR record that would lead to others' SRV records
// is none of them.
func allowed(want []dns.RR, foreign []string) []dns.RR {
	if len(foreign) == 0 {
		return want
	}
	return slices.DeleteFunc(slices.Clone(want), func(rr dns.RR) bool {
		n, ok := rr.(*dns.NAPTR)
		return slices.Contains(foreign, set(rr)) || ok && slices.Contains(foreign, n.Replacement+" SRV")
	})
}

// update makes a change in one message, on condition that the notes are still those that were read.
func (u *Updater) update(ctx context.Context, now state, c Change) error {
	m := new(dns.Msg)
	m.SetUpdate(u.zone())
	serial := &dns.TXT{Hdr: dns.RR_Header{Name: u.name(serialLabel), Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 0},
		Txt: []string{"v=1", "serial=" + strconv.FormatUint(now.number+1, 10), "by=" + u.By}}
	if now.serial == nil {
		m.RRsetNotUsed([]dns.RR{serial})
	} else {
		m.Used([]dns.RR{now.serial})
	}
	mine := map[string]bool{}
	for _, rr := range now.own {
		mine[set(rr)] = true
	}
	for _, rr := range c.Added {
		if !mine[set(rr)] {
			mine[set(rr)] = true
			m.RRsetNotUsed([]dns.RR{rr})
		}
	}
	for _, rr := range c.Removed {
		m.Remove([]dns.RR{dns.Copy(rr), u.note(rr)})
	}
	for _, rr := range c.Added {
		m.Insert([]dns.RR{dns.Copy(rr), u.note(rr)})
	}
	m.RemoveRRset([]dns.RR{serial})
	m.Insert([]dns.RR{serial})
	_, err := u.exchange(ctx, m)
	return err
}

// foreign looks at which of the records to be added others' stand already.
func (u *Updater) foreign(ctx context.Context, own, add []dns.RR, known []string) (found []string, err error) {
	mine := map[string]bool{}
	for _, rr := range own {
		mine[set(rr)] = true
	}
	for _, rr := range add {
		if s := set(rr); !mine[s] && !slices.Contains(found, s) && !slices.Contains(known, s) {
			there, err := u.ask(ctx, rr.Header().Name, rr.Header().Rrtype)
			if err != nil {
				return nil, err
			}
			if len(there) > 0 {
				found = append(found, s)
			}
		}
	}
	return found, nil
}

// ask gives the records of a name and type in the zone; none is no error.
func (u *Updater) ask(ctx context.Context, name string, kind uint16) ([]dns.RR, error) {
	m := new(dns.Msg)
	m.SetQuestion(name, kind)
	m.RecursionDesired = false
	r, err := u.exchange(ctx, m)
	if err != nil {
		return nil, err
	}
	if !r.Authoritative {
		return nil, fmt.Errorf("%w (its answer for %s is not authoritative)", ErrNotZone, name)
	}
	var out []dns.RR
	for _, rr := range r.Answer {
		if strings.EqualFold(rr.Header().Name, name) && rr.Header().Rrtype == kind {
			out = append(out, rr)
		}
	}
	return out, nil
}

// exchange sends a signed message and gives the signed answer; its code is an error unless it is NOERROR or NXDOMAIN for a query.
func (u *Updater) exchange(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	timeout := u.Timeout
	if timeout == 0 {
		timeout = 5 * time.Second
	}
	ctx, stop := context.WithTimeout(ctx, timeout)
	defer stop()
	dial := u.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, "tcp", u.Server)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer conn.Close()
	if at, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(at)
	}
	key := dns.Fqdn(strings.ToLower(u.Key.Name))
	m.SetTsig(key, dns.Fqdn(strings.ToLower(u.Key.Algorithm)), 300, time.Now().Unix())
	c := &dns.Conn{Conn: conn, TsigSecret: map[string]string{key: u.Key.Secret}}
	if err := c.WriteMsg(m); err != nil {
		if errors.Is(err, dns.ErrSecret) || strings.Contains(err.Error(), "base64") {
			return nil, fmt.Errorf("the secret of the key is not base64: %w", err)
		}
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	r, err := c.ReadMsg()
	if r == nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return r, verdict(m, r, err)
}

// verdict judges an answer; bad is what its signature came to.
func verdict(m, r *dns.Msg, bad error) error {
	if t := r.IsTsig(); t != nil {
		switch t.Error {
		case dns.RcodeBadTime:
			return ErrClock
		case dns.RcodeBadKey, dns.RcodeBadSig:
			return ErrKey
		}
	}
	switch {
	case errors.Is(bad, dns.ErrTime):
		return ErrClock
	case r.Id != m.Id || !r.Response:
		return ErrUnsigned
	case r.Rcode == dns.RcodeNotAuth && r.IsTsig() == nil:
		return fmt.Errorf("%w, or %w", ErrKey, ErrNotZone)
	case bad != nil || r.IsTsig() == nil:
		return fmt.Errorf("%w (%s)", ErrUnsigned, dns.RcodeToString[r.Rcode])
	}
	update := m.Opcode == dns.OpcodeUpdate
	switch r.Rcode {
	case dns.RcodeSuccess:
		return nil
	case dns.RcodeNameError:
		if !update {
			return nil
		}
	case dns.RcodeNXRrset:
		return ErrRace
	case dns.RcodeYXRrset, dns.RcodeYXDomain:
		return ErrForeign
	case dns.RcodeRefused:
		return ErrRefused
	case dns.RcodeNotAuth, dns.RcodeNotZone:
		return ErrNotZone
	}
	return fmt.Errorf("%w: %s", ErrServer, dns.RcodeToString[r.Rcode])
}
