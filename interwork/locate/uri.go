package locate

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"
	"golang.org/x/net/idna"
)

// The transports that can be located.
const (
	UDP = "UDP"
	TCP = "TCP"
	TLS = "TLS" // over TCP
)

// Default ports (RFC 3261 §19.1.2).
const (
	port    = 5060
	portTLS = 5061
)

func defaultPort(transport string) uint16 {
	if transport == TLS {
		return portTLS
	}
	return port
}

// Need narrows how a request may leave. The zero value narrows nothing.
type Need struct {
	// Transports are those that will do, out of the Locator's; empty: all of them. {TLS} is for a domain to which policy
	// allows nothing else, {TCP, TLS} for a request too large for a datagram (RFC 3261 §18.1.1).
	Transports []string
	// Federation asks for _sipfederationtls._tcp beside _sips._tcp, as deployments of Microsoft's and Cisco's kind publish it.
	Federation bool
	// ServicesOnly finds what NAPTR and SRV records name and not the domain's own addresses, for a caller who knows another
	// way for a domain that has none. It does not matter if the URI names a port.
	ServicesOnly bool
	// Permit says of addresses that the Locator's own Permit would not let through that they will do here: places that the
	// operator of this node has named. nil: none. Addresses that are no single host's are never a target.
	Permit func(netip.Addr) bool
}

// quest is what a URI settles by itself, before anything is asked (RFC 3263 §4).
type quest struct {
	host      string     // as in the certificate: lower case, A-labels, without the last dot; or the address
	name      string     // host as a question's name; "" if numeric
	addr      netip.Addr // numeric host
	port      uint16     // 0: none in the URI
	secure    bool       // sips
	transport string     // of the transport parameter, "" if none
	allowed   []string   // transports that may be used, most preferred first; never empty
}

// read takes a URI apart.
func (l *Locator) read(uri sip.Uri, need Need) (q quest, err error) {
	switch strings.ToLower(uri.Scheme) {
	case "sip", "":
	case "sips":
		q.secure = true
	default:
		return q, fmt.Errorf("%w, not %s", ErrScheme, uri.Scheme)
	}
	if uri.Wildcard {
		return q, fmt.Errorf("%w: *", ErrHost)
	}
	if v, ok := param(uri, "maddr"); ok {
		return q, fmt.Errorf("%w: %s", ErrMaddr, v)
	}
	if uri.Port < 0 || uri.Port > 65535 {
		return q, fmt.Errorf("%w: port %d", ErrHost, uri.Port)
	}
	q.port = uint16(uri.Port)
	if q.host, q.addr, err = host(uri.Host); err != nil {
		return q, err
	}
	if q.addr.IsValid() {
		if err := l.permitted(q.addr, need.Permit); err != nil {
			return q, err
		}
	} else {
		q.name = q.host + "."
	}
	for _, t := range l.transports {
		if (t == TLS || !q.secure) && (len(need.Transports) == 0 || slices.Contains(need.Transports, t)) {
			q.allowed = append(q.allowed, t)
		}
	}
	if v, ok := param(uri, "transport"); ok {
		q.transport = strings.ToUpper(v)
		switch {
		case q.secure && q.transport == TCP:
			q.transport = TLS // RFC 3261 §26.2.2: sips with transport=tcp is TLS over TCP
		case q.secure && q.transport == UDP:
			return q, fmt.Errorf("%w: sips never goes over UDP", ErrTransport)
		}
		if !slices.Contains(q.allowed, q.transport) {
			return q, fmt.Errorf("%w: the URI asks for %s, %s", ErrTransport, v, usable(q.allowed))
		}
	}
	if len(q.allowed) == 0 {
		return q, fmt.Errorf("%w: %s", ErrTransport, usable(nil))
	}
	return q, nil
}

func usable(transports []string) string {
	if len(transports) == 0 {
		return "and there is none that may be used here"
	}
	return "what may be used here is " + strings.Join(transports, ", ")
}

// usual is the transport of a request to which neither its URI nor the DNS gives one (RFC 3263 §4.1): UDP, and TLS over TCP for
// sips; if those may not be used, the first that may.
func (q *quest) usual() string {
	switch {
	case q.transport != "":
		return q.transport
	case !q.secure && slices.Contains(q.allowed, UDP):
		return UDP
	}
	return q.allowed[0]
}

// portFor is the port of the URI or the usual one.
func (q *quest) portFor(transport string) uint16 {
	return either(q.port, defaultPort(transport))
}

func param(uri sip.Uri, name string) (string, bool) {
	for _, p := range uri.UriParams {
		if strings.EqualFold(p.K, name) {
			return p.V, true
		}
	}
	return "", false
}

// names turns names in other scripts into A-labels (RFC 5891) as browsers do, and leaves "_" alone.
var names = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false), idna.StrictDomainName(false))

// host reads the host of a URI: an address, or a domain name, which it gives in lower case, in A-labels, without the dot at
// its end.
func host(s string) (string, netip.Addr, error) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		inner, closed := strings.CutSuffix(inner, "]")
		a, err := netip.ParseAddr(inner)
		if err != nil || !closed || !a.Is6() || a.Zone() != "" {
			return "", netip.Addr{}, fmt.Errorf("%w: %s", ErrHost, strconv.Quote(s))
		}
		a = a.Unmap()
		return a.String(), a, nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		if a.Zone() != "" {
			return "", netip.Addr{}, fmt.Errorf("%w: %s", ErrHost, strconv.Quote(s))
		}
		a = a.Unmap()
		return a.String(), a, nil
	}
	name, ok := Domain(s)
	if !ok {
		return "", netip.Addr{}, fmt.Errorf("%w: %s", ErrHost, strconv.Quote(s))
	}
	return name, netip.Addr{}, nil
}

// Domain gives the one form of a domain name that is asked for and compared: lower case, A-labels, no dot at the end. False:
// it is none that a host could have.
func Domain(s string) (string, bool) {
	if !ascii(s) {
		var err error
		if s, err = names.ToASCII(s); err != nil {
			return "", false
		}
	}
	s = strings.ToLower(strings.TrimSuffix(s, "."))
	return s, hostName(s)
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// hostName says that s can be the name of a host: labels of letters, digits, "-" and "_", the last one not of digits alone
// (that would be a mistaken address), no dot at the end.
func hostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for more := true; more; {
		var label string
		label, s, more = strings.Cut(s, ".")
		if label == "" || len(label) > 63 {
			return false
		}
		digits := true
		for i := range len(label) {
			c := label[i]
			switch {
			case '0' <= c && c <= '9':
			case 'a' <= c && c <= 'z', c == '-', c == '_':
				digits = false
			default:
				return false
			}
		}
		if !more && digits {
			return false
		}
	}
	return true
}

// Public says that an address is one of the public Internet, and not this machine, a private network, a shared one behind
// a carrier's NAT, a link, a group or a range set apart for documents. As Config.Permit it keeps a proxy peer from being
// sent into its own house by a stranger's zone.
func Public(a netip.Addr) bool {
	a = a.Unmap()
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() {
		return false
	}
	for _, p := range reserved {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// reserved are the ranges of the IANA special-purpose registries that are not globally reachable and that package netip does
// not name itself (RFC 6890, 6598, 5737, 3849, 9637, 2544).
var reserved = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001::/23"),
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("3fff::/20"),
	netip.MustParsePrefix("5f00::/16"),
	netip.MustParsePrefix("fec0::/10"),
}

// permitted says why an address cannot be a target. also is Need.Permit.
func (l *Locator) permitted(a netip.Addr, also func(netip.Addr) bool) error {
	switch {
	case a.IsUnspecified(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%w: %s is no host's address", ErrHost, a)
	case l.permit != nil && !l.permit(a) && (also == nil || !also(a)):
		return fmt.Errorf("%w: %s is not an address that this node sends to", ErrHost, a)
	}
	return nil
}
