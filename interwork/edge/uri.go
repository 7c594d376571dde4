package edge

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/message"
)

// sameURI compares two URIs in text form: octet by octet first, then as RFC 3261 §19.1.4 has it.
func sameURI(a, b string) bool {
	if a == b {
		return true
	}
	ua, err := message.ParseURI(a)
	if err != nil {
		return false
	}
	ub, err := message.ParseURI(b)
	return err == nil && equalURI(ua, ub)
}

// equalURI compares two SIP URIs by RFC 3261 §19.1.4. URIs of other schemes are equal when they are written the same.
func equalURI(a, b sip.Uri) bool {
	if a.Scheme != b.Scheme {
		return false
	}
	if a.Scheme != "sip" && a.Scheme != "sips" {
		return a.Raw() == b.Raw()
	}
	if unescape(a.User) != unescape(b.User) || unescape(a.Password) != unescape(b.Password) || a.Port != b.Port || foldHost(a.Host) != foldHost(b.Host) {
		return false
	}
	// A parameter in both has to agree. One of these in one URI only tells them apart, any other is ignored.
	for _, name := range [...]string{"user", "ttl", "method", "maddr", "transport", "gr"} {
		_, ina := param(a.UriParams, name)
		_, inb := param(b.UriParams, name)
		if ina != inb {
			return false
		}
	}
	for _, kv := range a.UriParams {
		if v, ok := param(b.UriParams, kv.K); ok && !strings.EqualFold(unescape(kv.V), unescape(v)) {
			return false
		}
	}
	if len(a.Headers) != len(b.Headers) {
		return false
	}
	for _, kv := range a.Headers {
		if v, ok := param(b.Headers, kv.K); !ok || unescape(kv.V) != unescape(v) {
			return false
		}
	}
	return true
}

// uriKey is equal for equal URIs, so that a table finds the few that have to be compared.
func uriKey(u sip.Uri) string {
	return unescape(u.User) + "@" + foldHost(u.Host) + ":" + strconv.Itoa(u.Port)
}

func param(p sip.HeaderParams, name string) (string, bool) {
	for _, kv := range p {
		if strings.EqualFold(kv.K, name) {
			return kv.V, true
		}
	}
	return "", false
}

// foldHost gives a host in the one spelling it is compared in.
func foldHost(h string) string {
	if ip, ok := hostIP(h); ok {
		return ip.String()
	}
	return strings.ToLower(strings.TrimSuffix(h, "."))
}

// hostIP reads a host that is an IP address, with or without the brackets of IPv6.
func hostIP(h string) (netip.Addr, bool) {
	if strings.HasPrefix(h, "[") && strings.HasSuffix(h, "]") {
		h = h[1 : len(h)-1]
	}
	ip, err := netip.ParseAddr(h)
	return ip.Unmap(), err == nil
}

// unescape undoes %HH; what is no escape stays.
func unescape(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(v))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
