package phone

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Bounds of a session description; those of real phones have a fortieth of that.
const (
	maxSDP      = 16 << 10
	maxSDPLines = 400
	maxMedia    = 8
)

var errSDP = errors.New("session description")

// direction says which way audio flows, seen from whoever wrote the description (RFC 3264 §5.1).
type direction struct{ send, recv bool }

var (
	sendrecv = direction{true, true}
	sendonly = direction{true, false}
)

func (d direction) String() string {
	switch d {
	case sendrecv:
		return "sendrecv"
	case sendonly:
		return "sendonly"
	case direction{false, true}:
		return "recvonly"
	}
	return "inactive"
}

// within is what this side may do when it wants d and the other has offered o (RFC 3264 §6.1).
func (d direction) within(o direction) direction {
	return direction{send: d.send && o.recv, recv: d.recv && o.send}
}

// description is what matters of an SDP body (RFC 8866): where the audio goes.
type description struct {
	addr  netip.AddrPort // of the audio; an unspecified address or port 0 means: send nothing
	dir   direction
	audio int     // index in media of the stream that is used
	media []mLine // all, in order, for the answer
}

type mLine struct{ kind, proto, formats string }

// parseSDP reads an offer or answer and finds its first PCMU stream. Names in place of addresses are refused.
func parseSDP(b []byte) (description, error) {
	d := description{audio: -1, dir: sendrecv}
	if len(b) > maxSDP {
		return d, fmt.Errorf("%w: %d bytes", errSDP, len(b))
	}
	lines := strings.Split(string(b), "\n")
	if len(lines) > maxSDPLines || !strings.HasPrefix(lines[0], "v=0") {
		return d, fmt.Errorf("%w: it does not begin with v=0, or has too many lines", errSDP)
	}
	session := netip.IPv4Unspecified()
	dir := sendrecv // of the session, then of the stream at hand
	for _, l := range lines {
		l = strings.TrimRight(l, "\r")
		kind, value, ok := strings.Cut(l, "=")
		if !ok {
			continue
		}
		at := len(d.media) - 1 // the stream the line belongs to, -1 for the session
		used := at >= 0 && at == d.audio
		switch kind {
		case "m":
			if len(d.media) == maxMedia {
				return d, fmt.Errorf("%w: more than %d streams", errSDP, maxMedia)
			}
			if err := d.addMedia(value, session, dir); err != nil {
				return d, err
			}
		case "c":
			ip, err := parseConnection(value)
			if err != nil {
				return d, err
			}
			if at < 0 {
				session = ip
			} else if used {
				d.addr = netip.AddrPortFrom(ip, d.addr.Port())
			}
		case "a":
			if n, ok := parseDirection(value); ok {
				if at < 0 {
					dir = n
				} else if used {
					d.dir = n
				}
			}
		}
	}
	if d.audio < 0 {
		return d, fmt.Errorf("%w: no audio stream with PCMU", errSDP)
	}
	return d, nil
}

func (d *description) addMedia(value string, ip netip.Addr, dir direction) error {
	f := strings.Fields(value) // kind port[/n] proto format…
	if len(f) < 4 {
		return fmt.Errorf("%w: m=%.40q", errSDP, value)
	}
	portText, _, _ := strings.Cut(f[1], "/")
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return fmt.Errorf("%w: port %.10q", errSDP, f[1])
	}
	m := mLine{kind: f[0], proto: f[2], formats: strings.Join(f[3:], " ")}
	if d.audio < 0 && m.kind == "audio" && m.proto == "RTP/AVP" && port != 0 {
		for _, format := range f[3:] {
			if format == "0" {
				d.audio = len(d.media)
				d.addr = netip.AddrPortFrom(ip, uint16(port))
				d.dir = dir
				break
			}
		}
	}
	d.media = append(d.media, m)
	return nil
}

func parseConnection(value string) (netip.Addr, error) {
	f := strings.Fields(value) // IN IP4 address
	if len(f) != 3 || f[0] != "IN" {
		return netip.Addr{}, fmt.Errorf("%w: c=%.40q", errSDP, value)
	}
	ip, err := netip.ParseAddr(f[2])
	if err != nil || ip.IsMulticast() {
		return netip.Addr{}, fmt.Errorf("%w: %.60q is no address to send to", errSDP, f[2])
	}
	return ip, nil
}

func parseDirection(attribute string) (direction, bool) {
	switch attribute {
	case "sendrecv":
		return sendrecv, true
	case "sendonly":
		return sendonly, true
	case "recvonly":
		return direction{recv: true}, true
	case "inactive":
		return direction{}, true
	}
	return direction{}, false
}

// writeSDP writes an offer, or the answer to one: there the streams of the offer all come back in order, those not used
// with port 0.
func writeSDP(user string, session, version uint64, local netip.AddrPort, dir direction, offer *description) []byte {
	family := "IP4"
	if local.Addr().Is6() {
		family = "IP6"
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	line("v=0")
	line("o=%s %d %d IN %s %s", user, session, version, family, local.Addr())
	line("s=-")
	line("c=IN %s %s", family, local.Addr())
	line("t=0 0")
	ours := func() {
		line("m=audio %d RTP/AVP 0", local.Port())
		line("a=rtpmap:0 PCMU/8000")
		line("a=ptime:20")
		line("a=%s", dir)
	}
	if offer == nil {
		ours()
		return []byte(b.String())
	}
	for i, m := range offer.media {
		if i == offer.audio {
			ours()
		} else {
			line("m=%s 0 %s %s", m.kind, m.proto, m.formats)
		}
	}
	return []byte(b.String())
}
