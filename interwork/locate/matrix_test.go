package locate

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// matrix is RFC 3263 row by row: what stands in the DNS, what is located, where the request goes in which order, and what
// was asked for that, in which order.
var matrix = []struct {
	name   string
	zone   string // below example.com
	uri    string
	need   Need
	config Config
	faults map[string]fault
	want   []string
	asked  []string
	err    error
	slow   bool // a name server stays silent
}{
	// §4.2: what the URI settles by itself.
	{name: "numeric IPv4", uri: "sip:bob@192.0.2.7", want: []string{"UDP 192.0.2.7:5060"}},
	{name: "numeric IPv4, port, transport", uri: "sip:192.0.2.7:5080;transport=tcp", want: []string{"TCP 192.0.2.7:5080"}},
	{name: "numeric IPv6", uri: "sip:[2001:db8::7]", want: []string{"UDP [2001:db8::7]:5060"}},
	{name: "numeric IPv6, port", uri: "sip:[2001:db8::7]:5070", want: []string{"UDP [2001:db8::7]:5070"}},
	{name: "numeric IPv4 in IPv6", uri: "sip:[::ffff:192.0.2.7]", want: []string{"UDP 192.0.2.7:5060"}},
	{name: "numeric, sips", uri: "sips:192.0.2.7", want: []string{"TLS 192.0.2.7:5061"}},
	{name: "numeric, transport=tls", uri: "sip:192.0.2.7;transport=TLS", want: []string{"TLS 192.0.2.7:5061"}},
	{name: "numeric, too large for a datagram", uri: "sip:192.0.2.7", need: Need{Transports: []string{TCP, TLS}}, want: []string{"TCP 192.0.2.7:5060"}},
	{
		name: "explicit port: addresses only", uri: "sip:example.com:5090",
		zone:  "@ NAPTR 10 10 \"s\" \"SIP+D2T\" \"\" _sip._tcp\n_sip._udp SRV 1 1 5060 a\n@ A 192.0.2.1\na A 192.0.2.2",
		want:  []string{"UDP 192.0.2.1:5090"},
		asked: []string{"AAAA example.com", "A example.com"},
	},
	{
		name: "explicit port, sips", uri: "sips:example.com:5090", zone: "@ A 192.0.2.1",
		want: []string{"TLS 192.0.2.1:5090"}, asked: []string{"AAAA example.com", "A example.com"},
	},
	{
		name: "explicit port and transport", uri: "sip:example.com:5090;transport=tcp", zone: "@ A 192.0.2.1",
		want: []string{"TCP 192.0.2.1:5090"}, asked: []string{"AAAA example.com", "A example.com"},
	},
	{
		name: "transport parameter: SRV of that transport only", uri: "sip:example.com;transport=tcp",
		zone:  "@ NAPTR 10 10 \"s\" \"SIP+D2U\" \"\" _sip._udp\n_sip._udp SRV 1 1 5060 a\n_sip._tcp SRV 1 1 5070 a\na A 192.0.2.2",
		want:  []string{"TCP 192.0.2.2:5070"},
		asked: []string{"SRV _sip._tcp.example.com", "AAAA a.example.com"},
	},
	{
		name: "transport=tls in a sip URI", uri: "sip:example.com;transport=tls", zone: "_sips._tcp SRV 1 1 5071 a\na A 192.0.2.2",
		want: []string{"TLS 192.0.2.2:5071"}, asked: []string{"SRV _sips._tcp.example.com", "AAAA a.example.com"},
	},
	{
		name: "transport parameter without SRV: addresses, default port", uri: "sip:example.com;transport=tls", zone: "@ A 192.0.2.1",
		want: []string{"TLS 192.0.2.1:5061"}, asked: []string{"SRV _sips._tcp.example.com", "AAAA example.com", "A example.com"},
	},
	{
		name: "sips with transport=tcp is TLS", uri: "sips:example.com;transport=tcp", zone: "_sips._tcp SRV 1 1 5061 a\na A 192.0.2.2",
		want: []string{"TLS 192.0.2.2:5061"}, asked: []string{"SRV _sips._tcp.example.com", "AAAA a.example.com"},
	},
	{name: "sips over UDP", uri: "sips:example.com;transport=udp", err: ErrTransport},
	{name: "a transport nobody speaks here", uri: "sip:example.com;transport=sctp", err: ErrTransport},
	{name: "a transport switched off", uri: "sip:example.com;transport=udp", config: Config{Transports: []string{TLS}}, err: ErrTransport},
	{name: "maddr", uri: "sip:bob@example.com;maddr=192.0.2.66", err: ErrMaddr},
	{name: "maddr beside a numeric host", uri: "sip:192.0.2.7;maddr=192.0.2.7;ttl=1", err: ErrMaddr},
	{name: "tel", uri: "tel:+15551234", err: ErrScheme},
	{name: "host with a zone index", uri: "sip:[fe80::1%25eth0]", err: ErrHost},
	{name: "the unspecified address", uri: "sip:0.0.0.0", err: ErrHost},
	{name: "a multicast group", uri: "sip:224.0.1.75", err: ErrHost},
	{name: "a mistaken address", uri: "sip:192.0.2.300", err: ErrHost},
	{name: "an empty label", uri: "sip:example..com", err: ErrHost},

	// §4.1: NAPTR.
	{
		name: "NAPTR: order before preference", uri: "sip:example.com",
		zone: `@ NAPTR 20 1 "s" "SIP+D2U" "" _sip._udp
			@ NAPTR 10 90 "s" "SIP+D2T" "" _sip._tcp
			@ NAPTR 10 50 "s" "SIPS+D2T" "" _sips._tcp
			_sip._udp SRV 1 1 5060 u
			_sip._tcp SRV 1 1 5060 t
			_sips._tcp SRV 1 1 5061 s
			u A 192.0.2.1
			t A 192.0.2.2
			s A 192.0.2.3`,
		want: []string{"TLS 192.0.2.3:5061", "TCP 192.0.2.2:5060"}, // order 20 is not looked at (RFC 3403 §4.1)
		asked: []string{"NAPTR example.com", "SRV _sips._tcp.example.com", "SRV _sip._tcp.example.com",
			"AAAA s.example.com", "AAAA t.example.com"},
	},
	{
		name: "NAPTR: preference within an order", uri: "sip:example.com", config: Config{Family: OnlyIPv4},
		zone: `@ NAPTR 10 20 "S" "sip+d2u" "" _sip._udp
			@ NAPTR 10 10 "s" "SIP+D2T" "" _sip._tcp
			_sip._udp SRV 1 1 5060 u
			_sip._tcp SRV 1 1 5060 t
			u A 192.0.2.1
			t A 192.0.2.2`,
		want:  []string{"TCP 192.0.2.2:5060", "UDP 192.0.2.1:5060"},
		asked: []string{"NAPTR example.com", "SRV _sip._tcp.example.com", "SRV _sip._udp.example.com"},
	},
	{
		name: "NAPTR: a later order when the first leads nowhere", uri: "sip:example.com", config: Config{Family: OnlyIPv4},
		zone: `@ NAPTR 10 10 "s" "SIP+D2T" "" _sip._tcp
			@ NAPTR 20 10 "s" "SIP+D2U" "" _sip._udp
			_sip._tcp SRV 1 1 5060 gone
			_sip._udp SRV 1 1 5060 u
			u A 192.0.2.1`,
		want:  []string{"UDP 192.0.2.1:5060"},
		asked: []string{"NAPTR example.com", "SRV _sip._tcp.example.com", "A gone.example.com", "SRV _sip._udp.example.com"},
	},
	{
		name: "NAPTR: services that nobody speaks here are passed over", uri: "sip:example.com", config: Config{Family: OnlyIPv4},
		zone: `@ NAPTR 1 1 "s" "SIP+D2S" "" _sip._sctp
			@ NAPTR 1 2 "s" "SIPS+D2W" "" _sips._ws
			@ NAPTR 1 3 "u" "E2U+sip" "!^.*$!sip:x@evil.test!" .
			@ NAPTR 1 4 "s" "SIP+D2T" "!^.*$!_sip._tcp.evil.test!" _sip._tcp.evil.test.
			@ NAPTR 1 5 "a" "SIP+D2T" "" evil.test.
			@ NAPTR 9 9 "s" "SIP+D2U" "" _sip._udp
			_sip._udp SRV 1 1 5060 u
			u A 192.0.2.1`,
		want:  []string{"UDP 192.0.2.1:5060"},
		asked: []string{"NAPTR example.com", "SRV _sip._udp.example.com"},
	},
	{
		name: "NAPTR: none of ours, so SRV in our order", uri: "sip:example.com", config: Config{Family: OnlyIPv4},
		zone: `@ NAPTR 1 1 "s" "SIP+D2S" "" _sip._sctp
			_sip._tcp SRV 1 1 5060 u
			u A 192.0.2.1`,
		want:  []string{"TCP 192.0.2.1:5060"},
		asked: []string{"NAPTR example.com", "SRV _sip._udp.example.com", "SRV _sip._tcp.example.com", "SRV _sips._tcp.example.com"},
	},
	{
		name: "NAPTR: the replacement lies in another domain", uri: "sip:example.com", config: Config{Family: OnlyIPv4},
		zone: `@ NAPTR 1 1 "s" "SIP+D2U" "" _sip._udp.provider.test.
			provider.test. 300 SOA ns hostmaster 1 3600 600 86400 60
			_sip._udp.provider.test. SRV 1 1 5066 p.provider.test.
			p.provider.test. A 192.0.2.9`,
		want:  []string{"UDP 192.0.2.9:5066"},
		asked: []string{"NAPTR example.com", "SRV _sip._udp.provider.test"},
	},
	{
		name: "NAPTR: a name of its own for the service", uri: "sip:example.com", config: Config{Family: OnlyIPv4},
		zone: `@ NAPTR 1 1 "s" "SIP+D2T" "" voice
			voice SRV 1 1 5066 p
			p A 192.0.2.9`,
		want:  []string{"TCP 192.0.2.9:5066"},
		asked: []string{"NAPTR example.com", "SRV voice.example.com", "A p.example.com"},
	},
	{
		name: "NAPTR without SRV behind it: addresses, transport of the NAPTR", uri: "sip:example.com", config: Config{Family: OnlyIPv4},
		zone: `@ NAPTR 1 1 "s" "SIP+D2T" "" _sip._tcp
			@ A 192.0.2.1`,
		want:  []string{"TCP 192.0.2.1:5060"},
		asked: []string{"NAPTR example.com", "SRV _sip._tcp.example.com", "A example.com"},
	},
	{
		name: "sips: SIPS+D2T only", uri: "sips:example.com", config: Config{Family: OnlyIPv4},
		zone: `@ NAPTR 1 1 "s" "SIP+D2U" "" _sip._udp
			@ NAPTR 1 2 "s" "SIP+D2T" "" _sip._tcp
			@ NAPTR 9 9 "s" "SIPS+D2T" "" _sips._tcp
			_sip._udp SRV 1 1 5060 u
			_sip._tcp SRV 1 1 5060 u
			_sips._tcp SRV 1 1 5061 u
			u A 192.0.2.1`,
		want:  []string{"TLS 192.0.2.1:5061"},
		asked: []string{"NAPTR example.com", "SRV _sips._tcp.example.com"},
	},
	{
		name: "sips without NAPTR: _sips._tcp only", uri: "sips:example.com", config: Config{Family: OnlyIPv4},
		zone: "_sip._udp SRV 1 1 5060 u\n_sip._tcp SRV 1 1 5060 u\n_sips._tcp SRV 1 1 5061 u\nu A 192.0.2.1",
		want: []string{"TLS 192.0.2.1:5061"}, asked: []string{"NAPTR example.com", "SRV _sips._tcp.example.com"},
	},
	{
		name: "sips without SRV: TLS on 5061", uri: "sips:example.com", config: Config{Family: OnlyIPv4}, zone: "@ A 192.0.2.1",
		want: []string{"TLS 192.0.2.1:5061"}, asked: []string{"NAPTR example.com", "SRV _sips._tcp.example.com", "A example.com"},
	},
	{
		name: "sip, TLS demanded by policy", uri: "sip:example.com", need: Need{Transports: []string{TLS}}, config: Config{Family: OnlyIPv4},
		zone: `@ NAPTR 1 1 "s" "SIP+D2U" "" _sip._udp
			@ NAPTR 9 9 "s" "SIPS+D2T" "" _sips._tcp
			_sip._udp SRV 1 1 5060 u
			_sips._tcp SRV 1 1 5061 u
			u A 192.0.2.1`,
		want: []string{"TLS 192.0.2.1:5061"}, asked: []string{"NAPTR example.com", "SRV _sips._tcp.example.com"},
	},
	{
		name: "federation: _sipfederationtls._tcp beside _sips._tcp", uri: "sips:example.com", need: Need{Federation: true}, config: Config{Family: OnlyIPv4},
		zone:  "_sipfederationtls._tcp SRV 0 0 5061 edge\nedge A 192.0.2.1",
		want:  []string{"TLS 192.0.2.1:5061"},
		asked: []string{"NAPTR example.com", "SRV _sips._tcp.example.com", "SRV _sipfederationtls._tcp.example.com"},
	},
	{
		name: "federation: both resolve", uri: "sip:example.com;transport=tls", need: Need{Federation: true}, config: Config{Family: OnlyIPv4},
		zone:  "_sips._tcp SRV 0 0 5061 a\n_sipfederationtls._tcp SRV 0 0 5061 b\na A 192.0.2.1\nb A 192.0.2.2",
		want:  []string{"TLS 192.0.2.1:5061", "TLS 192.0.2.2:5061"},
		asked: []string{"SRV _sips._tcp.example.com", "SRV _sipfederationtls._tcp.example.com"},
	},

	// §4.2: SRV.
	{
		name: "no NAPTR: SRV of each transport, in our order", uri: "sip:example.com", config: Config{Family: OnlyIPv4},
		zone: "_sip._tcp SRV 1 1 5060 t\n_sip._udp SRV 1 1 5060 u\nt A 192.0.2.2\nu A 192.0.2.1",
		want: []string{"UDP 192.0.2.1:5060", "TCP 192.0.2.2:5060"},
		asked: []string{"NAPTR example.com", "SRV _sip._udp.example.com", "SRV _sip._tcp.example.com",
			"SRV _sips._tcp.example.com"},
	},
	{
		name: "no NAPTR: another order of ours", uri: "sip:example.com", config: Config{Family: OnlyIPv4, Transports: []string{TLS, TCP}},
		zone:  "_sip._tcp SRV 1 1 5060 t\n_sip._udp SRV 1 1 5060 t\n_sips._tcp SRV 1 1 5061 t\nt A 192.0.2.2",
		want:  []string{"TLS 192.0.2.2:5061", "TCP 192.0.2.2:5060"},
		asked: []string{"NAPTR example.com", "SRV _sips._tcp.example.com", "SRV _sip._tcp.example.com"},
	},
	{
		name: "no SRV: addresses, UDP on 5060", uri: "sip:example.com", zone: "@ A 192.0.2.1",
		want: []string{"UDP 192.0.2.1:5060"},
		asked: []string{"NAPTR example.com", "SRV _sip._udp.example.com", "SRV _sip._tcp.example.com", "SRV _sips._tcp.example.com",
			"AAAA example.com", "A example.com"},
	},
	{
		name: "no SRV, too large for a datagram: TCP", uri: "sip:example.com", need: Need{Transports: []string{TCP, TLS}}, config: Config{Family: OnlyIPv4},
		zone: "@ A 192.0.2.1", want: []string{"TCP 192.0.2.1:5060"},
		asked: []string{"NAPTR example.com", "SRV _sip._tcp.example.com", "SRV _sips._tcp.example.com", "A example.com"},
	},
	{
		name: "no SRV, services only", uri: "sip:example.com", need: Need{ServicesOnly: true, Transports: []string{UDP}}, zone: "@ A 192.0.2.1",
		err: ErrNoService, asked: []string{"NAPTR example.com", "SRV _sip._udp.example.com"},
	},
	{
		name: "SRV priority", uri: "sip:example.com;transport=udp", config: Config{Family: OnlyIPv4},
		zone:  "_sip._udp SRV 30 100 5060 c\n_sip._udp SRV 10 0 5060 a\n_sip._udp SRV 20 50 5062 b\na A 192.0.2.1\nb A 192.0.2.2\nc A 192.0.2.3",
		want:  []string{"UDP 192.0.2.1:5060", "UDP 192.0.2.2:5062", "UDP 192.0.2.3:5060"},
		asked: []string{"SRV _sip._udp.example.com"},
	},
	{
		name: "SRV weight: the heavy one first, most of the time", uri: "sip:example.com;transport=udp", config: Config{Family: OnlyIPv4},
		zone:  "_sip._udp SRV 10 0 5060 a\n_sip._udp SRV 10 65535 5060 b\na A 192.0.2.1\nb A 192.0.2.2",
		want:  []string{"UDP 192.0.2.2:5060", "UDP 192.0.2.1:5060"},
		asked: []string{"SRV _sip._udp.example.com"},
	},
	{
		name: "SRV to a host without address: the next", uri: "sip:example.com;transport=udp", config: Config{Family: OnlyIPv4},
		zone:  "_sip._udp SRV 10 0 5060 gone\n_sip._udp SRV 20 0 5060 b\nb A 192.0.2.2",
		want:  []string{"UDP 192.0.2.2:5060"},
		asked: []string{"SRV _sip._udp.example.com", "A gone.example.com"},
	},
	{
		name: "SRV to hosts without address only", uri: "sip:example.com;transport=udp", config: Config{Family: OnlyIPv4},
		zone: "_sip._udp SRV 10 0 5060 gone\n@ A 192.0.2.1",
		err:  ErrNoAddress, asked: []string{"SRV _sip._udp.example.com", "A gone.example.com"},
	},
	{
		name: "SRV with port 0 and with no host's name", uri: "sip:example.com;transport=udp", config: Config{Family: OnlyIPv4},
		zone:  "_sip._udp SRV 10 0 0 b\n_sip._udp SRV 11 0 5060 b\\.x\n_sip._udp SRV 20 0 5060 b\nb A 192.0.2.2",
		want:  []string{"UDP 192.0.2.2:5060"},
		asked: []string{"SRV _sip._udp.example.com"},
	},
	{
		name: "SRV target \".\": no such service", uri: "sip:example.com;transport=udp", zone: "_sip._udp SRV 0 0 0 .\n@ A 192.0.2.1",
		err: ErrNoService, asked: []string{"SRV _sip._udp.example.com"},
	},
	{
		name: "SRV target \".\" for one transport", uri: "sip:example.com", config: Config{Family: OnlyIPv4},
		zone: "_sip._udp SRV 0 0 0 .\n_sip._tcp SRV 1 1 5060 t\n@ A 192.0.2.1\nt A 192.0.2.2",
		want: []string{"TCP 192.0.2.2:5060"},
		asked: []string{"NAPTR example.com", "SRV _sip._udp.example.com", "SRV _sip._tcp.example.com",
			"SRV _sips._tcp.example.com"},
	},
	{
		name: "SRV target is an alias", uri: "sip:example.com;transport=udp", config: Config{Family: OnlyIPv4},
		zone:  "_sip._udp SRV 0 0 5060 a\na CNAME b\nb A 192.0.2.2",
		want:  []string{"UDP 192.0.2.2:5060"},
		asked: []string{"SRV _sip._udp.example.com", "A a.example.com"},
	},

	// Addresses.
	{
		name: "both families by turns", uri: "sip:example.com;transport=udp",
		zone: "_sip._udp SRV 1 0 5060 a\n_sip._udp SRV 2 0 5060 b\na A 192.0.2.1\na AAAA 2001:db8::1\nb A 192.0.2.2\nb AAAA 2001:db8::2",
		want: []string{"UDP [2001:db8::1]:5060", "UDP 192.0.2.1:5060", "UDP [2001:db8::2]:5060", "UDP 192.0.2.2:5060"},
		// All came beside the SRV records.
		asked: []string{"SRV _sip._udp.example.com"},
	},
	{
		name: "IPv4 first", uri: "sip:example.com:5060", config: Config{Family: PreferIPv4}, zone: "@ A 192.0.2.1\n@ AAAA 2001:db8::1",
		want: []string{"UDP 192.0.2.1:5060", "UDP [2001:db8::1]:5060"}, asked: []string{"A example.com", "AAAA example.com"},
	},
	{
		name: "IPv6 only", uri: "sip:example.com:5060", config: Config{Family: OnlyIPv6}, zone: "@ A 192.0.2.1\n@ AAAA 2001:db8::1",
		want: []string{"UDP [2001:db8::1]:5060"}, asked: []string{"AAAA example.com"},
	},
	{
		name: "a private address behind a public name", uri: "sip:example.com:5060", config: Config{Family: OnlyIPv4, Permit: Public},
		zone: "@ A 127.0.0.1\n@ A 10.0.0.1\n@ A 9.9.9.9", want: []string{"UDP 9.9.9.9:5060"}, asked: []string{"A example.com"},
	},
	{
		name: "addresses beside the SRV records, from elsewhere: asked again", uri: "sip:example.com;transport=udp", config: Config{Family: OnlyIPv4},
		zone: `_sip._udp SRV 0 0 5060 p.provider.test.
			provider.test. 300 SOA ns hostmaster 1 3600 600 86400 60
			p.provider.test. A 192.0.2.9`,
		faults: map[string]fault{"SRV _sip._udp.example.com": func(_ string, _, m *dns.Msg) *dns.Msg {
			lie, _ := dns.NewRR("p.provider.test. 300 A 192.0.2.66")
			m.Extra = []dns.RR{lie}
			return m
		}},
		want:  []string{"UDP 192.0.2.9:5060"},
		asked: []string{"SRV _sip._udp.example.com", "A p.provider.test"},
	},

	// Names.
	{
		name: "the dot at the end, and capitals", uri: "sip:EXAMPLE.com.;transport=udp", config: Config{Family: OnlyIPv4},
		zone: "_sip._udp SRV 0 0 5060 a\na A 192.0.2.2",
		want: []string{"UDP 192.0.2.2:5060"}, asked: []string{"SRV _sip._udp.example.com"},
	},
	{
		name: "a name in another script", uri: "sip:bücher.example.com:5060", config: Config{Family: OnlyIPv4},
		zone: "xn--bcher-kva A 192.0.2.3", want: []string{"UDP 192.0.2.3:5060"}, asked: []string{"A xn--bcher-kva.example.com"},
	},
	{
		name: "the same in A-labels", uri: "sip:xn--bcher-kva.example.com:5060", config: Config{Family: OnlyIPv4},
		zone: "xn--bcher-kva A 192.0.2.3", want: []string{"UDP 192.0.2.3:5060"}, asked: []string{"A xn--bcher-kva.example.com"},
	},
	{
		name: "an underscore in a host", uri: "sip:my_pbx.example.com:5060", config: Config{Family: OnlyIPv4},
		zone: "my_pbx A 192.0.2.3", want: []string{"UDP 192.0.2.3:5060"}, asked: []string{"A my_pbx.example.com"},
	},
	{
		name: "a wildcard", uri: "sip:anybody.example.com", config: Config{Family: OnlyIPv4, Transports: []string{UDP}},
		zone: `* NAPTR 1 1 "s" "SIP+D2U" "" _sip._udp.example.com.
			_sip._udp SRV 0 0 5060 a
			a A 192.0.2.2`,
		want: []string{"UDP 192.0.2.2:5060"}, asked: []string{"NAPTR anybody.example.com", "SRV _sip._udp.example.com"},
	},
	{
		name: "a chain of aliases", uri: "sip:one.example.com:5060", config: Config{Family: OnlyIPv4},
		zone: "one CNAME two\ntwo CNAME three\nthree A 192.0.2.3", want: []string{"UDP 192.0.2.3:5060"}, asked: []string{"A one.example.com"},
	},
	{
		name: "an alias whose end another server knows", uri: "sip:one.example.com:5060", config: Config{Family: OnlyIPv4},
		zone: `one CNAME a.provider.test.
			provider.test. 300 SOA ns hostmaster 1 3600 600 86400 60
			a.provider.test. A 192.0.2.9`,
		faults: map[string]fault{"A one.example.com": func(_ string, _, m *dns.Msg) *dns.Msg {
			m.Answer = m.Answer[:1]
			return m
		}},
		want: []string{"UDP 192.0.2.9:5060"}, asked: []string{"A one.example.com", "A a.provider.test"},
	},
	{
		name: "a circle of aliases", uri: "sip:one.example.com:5060", config: Config{Family: OnlyIPv4},
		zone: "one CNAME two\ntwo CNAME one", err: ErrAliases, asked: []string{"A one.example.com"},
	},
	{
		name: "too long a chain of aliases", uri: "sip:c0.example.com:5060", config: Config{Family: OnlyIPv4},
		zone: "c0 CNAME c1\nc1 CNAME c2\nc2 CNAME c3\nc3 CNAME c4\nc4 CNAME c5\nc5 CNAME c6\nc6 CNAME c7\nc7 CNAME c8\nc8 CNAME c9\nc9 CNAME c10\nc10 A 192.0.2.1",
		err:  ErrAliases, asked: []string{"A c0.example.com", "A c8.example.com"},
	},
	{
		name: "an alias to nothing", uri: "sip:one.example.com:5060", config: Config{Family: OnlyIPv4},
		zone: "one CNAME gone", err: ErrNoAddress, asked: []string{"A one.example.com"},
	},

	// What the DNS says and fails to say.
	{name: "NXDOMAIN", uri: "sip:nobody.example.com", err: ErrNoSuchDomain, asked: []string{"NAPTR nobody.example.com"}},
	{
		name: "NXDOMAIN with an explicit port", uri: "sip:nobody.example.com:5060", err: ErrNoSuchDomain,
		asked: []string{"AAAA nobody.example.com", "A nobody.example.com"},
	},
	{
		name: "no records at all", uri: "sip:example.com", config: Config{Family: OnlyIPv4}, zone: "@ MX 1 mail", err: ErrNoAddress,
		asked: []string{"NAPTR example.com", "SRV _sip._udp.example.com", "SRV _sip._tcp.example.com", "SRV _sips._tcp.example.com", "A example.com"},
	},
	{
		name: "SERVFAIL for NAPTR: the SRV records do", uri: "sip:example.com", config: Config{Family: OnlyIPv4, Transports: []string{UDP}},
		zone: "_sip._udp SRV 0 0 5060 a\na A 192.0.2.2", faults: map[string]fault{"NAPTR example.com": rcode(dns.RcodeServerFailure)},
		want: []string{"UDP 192.0.2.2:5060"}, asked: []string{"NAPTR example.com", "SRV _sip._udp.example.com"},
	},
	{
		name: "SERVFAIL for SRV: never the domain's own address", uri: "sip:example.com", config: Config{Family: OnlyIPv4, Transports: []string{UDP}},
		zone: "_sip._udp SRV 0 0 5060 a\na A 192.0.2.2\n@ A 192.0.2.1", faults: map[string]fault{"SRV _sip._udp.example.com": rcode(dns.RcodeServerFailure)},
		err: ErrServFail, asked: []string{"NAPTR example.com", "SRV _sip._udp.example.com"},
	},
	{
		name: "SERVFAIL for one transport: another does", uri: "sip:example.com", config: Config{Family: OnlyIPv4, Transports: []string{UDP, TCP}},
		zone: "_sip._tcp SRV 0 0 5060 a\na A 192.0.2.2", faults: map[string]fault{"SRV _sip._udp.example.com": rcode(dns.RcodeServerFailure)},
		want: []string{"TCP 192.0.2.2:5060"}, asked: []string{"NAPTR example.com", "SRV _sip._udp.example.com", "SRV _sip._tcp.example.com"},
	},
	{
		name: "REFUSED", uri: "sip:elsewhere.test:5060", config: Config{Family: OnlyIPv4}, err: ErrServFail, asked: []string{"A elsewhere.test"},
	},
	{
		name: "SERVFAIL for one family: the other does", uri: "sip:example.com:5060", zone: "@ A 192.0.2.1",
		faults: map[string]fault{"AAAA example.com": rcode(dns.RcodeServerFailure)},
		want:   []string{"UDP 192.0.2.1:5060"}, asked: []string{"AAAA example.com", "A example.com"},
	},
	{
		name: "silence", uri: "sip:example.com:5060", config: Config{Family: OnlyIPv4}, zone: "@ A 192.0.2.1", slow: true,
		faults: map[string]fault{"*": silent}, err: ErrTimeout, asked: []string{"A example.com", "A example.com"},
	},
	{
		name: "silence about NAPTR: the SRV records do", uri: "sip:example.com", config: Config{Family: OnlyIPv4, Transports: []string{UDP}}, slow: true,
		zone: "_sip._udp SRV 0 0 5060 a\na A 192.0.2.2", faults: map[string]fault{"NAPTR example.com": silent},
		want: []string{"UDP 192.0.2.2:5060"}, asked: []string{"NAPTR example.com", "NAPTR example.com", "SRV _sip._udp.example.com"},
	},
	{
		name: "a referral is no answer", uri: "sip:example.com:5060", config: Config{Family: OnlyIPv4}, zone: "@ A 192.0.2.1",
		faults: map[string]fault{"*": func(_ string, query, _ *dns.Msg) *dns.Msg {
			m := new(dns.Msg).SetReply(query)
			ns, _ := dns.NewRR("example.com. 300 NS ns.elsewhere.test.")
			m.Ns = []dns.RR{ns}
			return m
		}},
		err: ErrBogus, asked: []string{"A example.com"},
	},
	{
		name: "truncated: again over TCP", uri: "sip:example.com:5060", config: Config{Family: OnlyIPv4}, zone: "@ A 192.0.2.1",
		faults: map[string]fault{"A example.com": func(network string, _, m *dns.Msg) *dns.Msg {
			if network == "udp" {
				m.Truncated, m.Answer = true, nil
			}
			return m
		}},
		want: []string{"UDP 192.0.2.1:5060"}, asked: []string{"A example.com", "A example.com tcp"},
	},
	{
		name: "a server that does not know EDNS", uri: "sip:example.com:5060", config: Config{Family: OnlyIPv4}, zone: "@ A 192.0.2.1",
		faults: map[string]fault{"*": func(_ string, query, m *dns.Msg) *dns.Msg {
			if query.IsEdns0() != nil {
				m := new(dns.Msg).SetRcode(query, dns.RcodeFormatError)
				m.Question = nil
				return m
			}
			return m
		}},
		want: []string{"UDP 192.0.2.1:5060"}, asked: []string{"A example.com", "A example.com"},
	},
}

func TestMatrix(t *testing.T) {
	if len(matrix) < 30 {
		t.Fatalf("the matrix has %d rows", len(matrix))
	}
	for _, row := range matrix {
		t.Run(row.name, func(t *testing.T) {
			if row.slow && testing.Short() {
				t.Skip("waits for a silent name server")
			}
			t.Parallel()
			s := serve(t, soaOf+row.zone, row.faults)
			rc := ResolverConfig{Attempt: 20 * time.Second, Timeout: 60 * time.Second}
			row.config.Timeout = 60 * time.Second
			if row.slow {
				rc.Attempt, rc.Timeout = 400*time.Millisecond, 6*time.Second
			}
			l := locator(t, rc, row.config, s)
			res, err := l.LocateFor(context.Background(), uri(row.uri), row.need)
			if !errors.Is(err, row.err) || (err != nil) != (row.err != nil) {
				t.Errorf("error %v, want %v", err, row.err)
			}
			if got := shown(res.Targets); !slices.Equal(got, row.want) {
				t.Errorf("targets\n %q, want\n %q", got, row.want)
			}
			if got := s.asked(); !slices.Equal(got, row.asked) {
				t.Errorf("asked\n %q, want\n %q", got, row.asked)
			}
			for _, target := range res.Targets {
				if want, _, _ := host(uri(row.uri).Host); target.Name != want {
					t.Errorf("the certificate has to name %q, want %q", target.Name, want)
				}
			}
			if t.Failed() {
				t.Logf("%v\n%v", res, err)
			}
			if strings.Contains(row.zone, "SRV 0 0 0 .") && !strings.Contains(res.String(), "the domain says that there is no such service") {
				t.Errorf("the target \".\" is not explained:\n%v", res)
			}
			// What is explained names every question that was asked.
			text := res.String()
			for _, q := range row.asked {
				q = strings.TrimSuffix(q, " tcp")
				if !strings.Contains(text, q+":") && !strings.Contains(q, "provider.test") && !strings.Contains(q, "c8.") {
					t.Errorf("the explanation does not name %q:\n%s", q, text)
				}
			}
		})
	}
}
