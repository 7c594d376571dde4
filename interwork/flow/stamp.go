package flow

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// stamp writes where a request came from on its top Via: received when that is not what the Via says, or when the client
// asked for the port (RFC 3261 §18.2.1), and the port when it asked for it (RFC 3581 §4). What the client itself wrote into
// received or rport is replaced, so that the layers above may trust both.
func stamp(m sip.Message, from Addr) {
	if _, ok := m.(*sip.Request); !ok {
		return
	}
	via := m.Via()
	if via == nil {
		return
	}
	_, asked := via.Params.Get("rport")
	_, claimed := via.Params.Get("received")
	if asked {
		via.Params.Add("rport", strconv.Itoa(from.Port))
	}
	if asked || claimed || !sameHost(via.Host, from.Host) {
		via.Params.Add("received", from.Host)
	}
}

func sameHost(sentBy, from string) bool {
	if sentBy == from {
		return true
	}
	a, err := netip.ParseAddr(strings.Trim(sentBy, "[]"))
	b, err2 := netip.ParseAddr(from)
	return err == nil && err2 == nil && a.Unmap() == b.Unmap()
}
