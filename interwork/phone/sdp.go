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
	addr    netip.AddrPort // of the audio; an unspecified address or port 0 means: send nothing
	control netip.AddrPort // of its RTCP: the next port, or that of a=rtcp (RFC 3605)
	mux     bool           // RTCP may share the port (RFC 5761)
	dir     direction
	codecs  []Codec // of those this phone knows, the preferred one first
	audio   int     // index in media of the stream that is used
	media   []mLine // all, in order, for the answer
}

type mLine struct{ kind, proto, formats string }

// parseSDP reads an offer or answer and finds its first stream in one of the codecs. Names in place of addresses are refused.
func parseSDP(b []byte, codecs []Codec) (description, error) {
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
	var control netip.AddrPort
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
			if err := d.addMedia(value, session, dir, codecs); err != nil {
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
			} else if used {
				if err := d.attribute(value, &control); err != nil {
					return d, err
				}
			}
		}
	}
	if d.audio < 0 {
		return d, fmt.Errorf("%w: no audio stream over RTP/AVP with %v", errSDP, codecs)
	}
	d.control = netip.AddrPortFrom(d.addr.Addr(), d.addr.Port()+1) // 0 behind the last port: none
	if control.Port() != 0 {
		d.control = control
		if !control.Addr().IsValid() {
			d.control = netip.AddrPortFrom(d.addr.Addr(), control.Port())
		}
	}
	return d, nil
}

// attribute reads one of the stream's that is no direction; control gets what a=rtcp says.
func (d *description) attribute(value string, control *netip.AddrPort) error {
	name, rest, _ := strings.Cut(value, ":")
	switch name {
	case "rtcp-mux":
		d.mux = true
	case "rtcp": // port, or port IN IP4 address
		f := strings.Fields(rest)
		if len(f) == 0 {
			return fmt.Errorf("%w: a=rtcp without a port", errSDP)
		}
		port, err := strconv.ParseUint(f[0], 10, 16)
		if err != nil {
			return fmt.Errorf("%w: a=rtcp:%.10q", errSDP, f[0])
		}
		var ip netip.Addr
		if len(f) > 1 {
			if ip, err = parseConnection(strings.Join(f[1:], " ")); err != nil {
				return err
			}
		}
		*control = netip.AddrPortFrom(ip, uint16(port))
	}
	return nil
}

// parseSDP reads what the far side offers.
func (p *Phone) parseSDP(b []byte) (description, error) { return parseSDP(b, p.cfg.Codecs) }

// parseAnswer reads what it answers. This side offers no rtcp-mux, so an answer with it means nothing.
func (p *Phone) parseAnswer(b []byte) (description, error) {
	d, err := parseSDP(b, p.cfg.Codecs)
	d.mux = false
	return d, err
}

func (d *description) addMedia(value string, ip netip.Addr, dir direction, codecs []Codec) error {
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
		if in := known(f[3:], codecs); len(in) > 0 {
			d.audio, d.codecs = len(d.media), in
			d.addr = netip.AddrPortFrom(ip, uint16(port))
			d.dir = dir
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

// writing is what a description of this side is made of.
type writing struct {
	user             string
	session, version uint64 // of the o= line
	local            netip.AddrPort
	control          uint16 // port for RTCP; 0: it has none of its own
	dir              direction
	codecs           []Codec
	offer            *description // that this answers, nil for an offer
}

// bytes writes an offer, or the answer to one: there the streams of the offer all come back in order, those not used with
// port 0, and the codecs are those that both know in the order of the offer.
func (w writing) bytes() []byte {
	family := "IP4"
	if w.local.Addr().Is6() {
		family = "IP6"
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	line("v=0")
	line("o=%s %d %d IN %s %s", w.user, w.session, w.version, family, w.local.Addr())
	line("s=-")
	line("c=IN %s %s", family, w.local.Addr())
	line("t=0 0")
	codecs := w.codecs
	if w.offer != nil {
		codecs = w.offer.codecs
	}
	ours := func() {
		var formats []string
		for _, c := range codecs {
			formats = append(formats, c.format())
		}
		line("m=audio %d RTP/AVP %s", w.local.Port(), strings.Join(formats, " "))
		for _, c := range codecs {
			line("a=rtpmap:%s %s/%d", c.format(), c, clockRate)
		}
		line("a=ptime:20")
		if w.control != 0 && w.control != w.local.Port()+1 {
			line("a=rtcp:%d", w.control)
		}
		if w.offer != nil && w.offer.mux {
			line("a=rtcp-mux")
		}
		line("a=%s", w.dir)
	}
	if w.offer == nil {
		ours()
		return []byte(b.String())
	}
	for i, m := range w.offer.media {
		if i == w.offer.audio {
			ours()
		} else {
			line("m=%s 0 %s %s", m.kind, m.proto, m.formats)
		}
	}
	return []byte(b.String())
}
