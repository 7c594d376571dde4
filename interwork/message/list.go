package message

import "github.com/emiago/sipgo/sip"

// Contacts returns all Contact values of m in order; "*" has Address.Wildcard set. The headers returned may be m's own.
func Contacts(m sip.Message) []*sip.ContactHeader {
	var out []*sip.ContactHeader
	for _, h := range m.GetHeaders("contact") {
		if c, ok := h.(*sip.ContactHeader); ok {
			out = append(out, c)
			continue
		}
		each(h.Value(), func(a address) {
			out = append(out, &sip.ContactHeader{DisplayName: a.display, Address: a.uri, Params: a.params})
		})
	}
	return out
}

// ReadContact reads one header field as Parse has left it, false when it is no Contact.
func ReadContact(h sip.Header) (*sip.ContactHeader, bool) {
	if c, ok := h.(*sip.ContactHeader); ok {
		return c, true
	}
	if h.Name() != "Contact" {
		return nil, false
	}
	a, _, f := readAddress(nil, h.Value())
	if f != nil {
		return nil, false
	}
	return &sip.ContactHeader{DisplayName: a.display, Address: a.uri, Params: a.params}, true
}

// Routes returns the URIs of all values of the header name, which is Route, Record-Route or any other list of addresses
// (Path, Service-Route, P-Asserted-Identity), topmost first. A value that cannot be read ends its line.
func Routes(m sip.Message, name string) []sip.Uri {
	var out []sip.Uri
	for _, h := range m.GetHeaders(name) {
		switch h := h.(type) {
		case *sip.RouteHeader:
			out = append(out, h.Address)
		case *sip.RecordRouteHeader:
			out = append(out, h.Address)
		default:
			each(h.Value(), func(a address) { out = append(out, a.uri) })
		}
	}
	return out
}

func each(s string, do func(address)) {
	for range MaxHeaders {
		a, rest, f := readAddress(nil, s)
		if f != nil {
			return
		}
		do(a)
		if rest == "" {
			return
		}
		s = rest[1:]
	}
}

// PopRoute takes the topmost Route value off req and reports whether there was one. sipgo's RemoveHeader leaves the
// accessor pointing at a header that is gone when the next value is a plain one.
func PopRoute(req *sip.Request) bool {
	if !pop(&req.MessageData, "Route", func() sip.Header { return &sip.RouteHeader{} }) {
		return false
	}
	// The new topmost value becomes typed, so that req.Route() reads it as this package does.
	for _, h := range req.Headers() {
		if h.Name() != "Route" {
			continue
		}
		if _, ok := h.(*sip.RouteHeader); !ok {
			if a, _, f := readAddress(nil, h.Value()); f == nil {
				req.ReplaceHeader(&sip.RouteHeader{Address: a.uri})
			}
		}
		break
	}
	return true
}

// PopVia takes the topmost Via value off m and reports whether there was one.
func PopVia(m sip.Message) bool {
	switch m := m.(type) {
	case *sip.Request:
		return popVia(&m.MessageData)
	case *sip.Response:
		return popVia(&m.MessageData)
	}
	return false
}

// pop removes the first header of the name, as a typed one so that sipgo forgets it in its accessor too.
func pop(md *sip.MessageData, name string, typed func() sip.Header) bool {
	md.ReplaceHeader(typed())
	return md.RemoveHeader(name)
}

// popVia is pop for Via, which Parse always leaves typed.
func popVia(md *sip.MessageData) bool {
	for _, h := range md.Headers() {
		if _, ok := h.(*sip.ViaHeader); ok {
			return md.RemoveHeader("Via")
		}
		if h.Name() == "Via" {
			break
		}
	}
	return pop(md, "Via", func() sip.Header { return &sip.ViaHeader{} })
}
