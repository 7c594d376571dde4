package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"p2psip/cmd/p2psip/node"
	"p2psip/interwork/phone"
	"p2psip/overlay"
)

// handset is what `p2psip call` and `p2psip echo` need to be a phone of the node on this machine.
type handset struct {
	user  overlay.AOR    // whose phone it is
	node  netip.AddrPort // where the node takes phones, UDP
	local net.PacketConn // the phone's socket
	data  string         // the node's data directory, to ask how a call stands; "" if it was not asked
}

func handsetFlags() []cli.Flag {
	return []cli.Flag{
		dataFlag(),
		&cli.StringFlag{Name: "as", Usage: "`USER` whose phone this is, such as alice or sip:alice@p2psip.example (default: the node's only user)"},
		&cli.StringFlag{Name: "node", Usage: "`ADDR:PORT` where the node takes phones, over UDP (default: that of the running node)"},
		&cli.BoolFlag{Name: "password-stdin", Usage: "read the user's password from standard input, if the node asks for one"},
		&cli.StringFlag{Name: "password-file", Usage: "read the user's password from the first line of a `FILE`, if the node asks for one"},
	}
}

// openHandset finds the node and opens a socket towards it. The node is asked for what the command line does not say.
func (p *program) openHandset(c *cli.Context) (*handset, error) {
	h := &handset{}
	var status *node.Status
	data, err := p.dataDir(c)
	if err == nil {
		ctx, cancel := context.WithTimeout(c.Context, askTimeout)
		defer cancel()
		done := p.ui.Progress("Asking the node")
		var res node.Response
		res, err = node.Ask(ctx, data, node.Request{Do: "status"})
		done()
		if status = res.Status; err == nil && status == nil {
			err = errors.New("the node gave no status")
		}
	}
	if err == nil {
		h.data = data
	} else if !c.IsSet("node") || c.IsSet("data") || c.Context.Err() != nil {
		return nil, err // nothing else says where the node is
	}
	if h.node, err = nodeAddr(c, status); err != nil {
		return nil, err
	}
	if h.user, err = userOf(c.String("as"), status); err != nil {
		return nil, err
	}
	// Connecting a UDP socket sends nothing; it tells the address that the node will see.
	probe, err := net.Dial("udp", h.node.String())
	if err != nil {
		return nil, fmt.Errorf("the way to the node at %s: %w", h.node, err)
	}
	at := probe.LocalAddr().(*net.UDPAddr)
	probe.Close()
	if h.local, err = net.ListenUDP("udp", &net.UDPAddr{IP: at.IP, Zone: at.Zone}); err != nil {
		return nil, fmt.Errorf("a socket for the phone: %w", err)
	}
	return h, nil
}

// nodeAddr is where the node takes phones: as the command line says, else as the node says.
func nodeAddr(c *cli.Context, s *node.Status) (netip.AddrPort, error) {
	if c.IsSet("node") {
		a, err := netip.ParseAddrPort(c.String("node"))
		if err != nil || a.Port() == 0 {
			return a, withHint(usagef("--node %q is not an IP address and port", c.String("node")), "such as --node 127.0.0.1:5060")
		}
		return a, nil
	}
	for _, sip := range s.SIP {
		a, err := netip.ParseAddrPort(sip.Addr)
		if err != nil || sip.Transport != "UDP" {
			continue
		}
		if ip := a.Addr(); ip.IsUnspecified() { // all of this machine's: the loopback is trusted where nothing else is said
			a = netip.AddrPortFrom(netip.MustParseAddr(map[bool]string{true: "127.0.0.1", false: "::1"}[ip.Is4()]), a.Port())
		}
		return a, nil
	}
	return netip.AddrPort{}, withHint(errors.New("the node does not say where it takes phones"), "name the address with --node")
}

// userOf is whose phone this is: the one that was named, else the node's only user.
func userOf(as string, s *node.Status) (overlay.AOR, error) {
	var aor overlay.AOR
	var err error
	switch {
	case strings.ContainsAny(as, ":@"):
		if aor, err = overlay.ParseAOR(as); err != nil {
			return aor, &badWord{err}
		}
	case s == nil:
		return aor, withHint(usagef("--as has to name the user in full, because no node could be asked"), "such as --as sip:alice@p2psip.example")
	case as != "":
		if aor, err = overlay.ID(s.Overlay.ID).AOR(as); err != nil {
			return aor, &badWord{err}
		}
	case len(s.Users) == 1:
		return overlay.ParseAOR(s.Users[0])
	case len(s.Users) == 0:
		return aor, withHint(errors.New("the node's credential names no user"), "p2psip overlay issue makes one that does")
	default:
		return aor, withHint(usagef("the node has several users: %s", strings.Join(s.Users, ", ")), "choose one with --as")
	}
	if s != nil && len(s.Users) > 0 && !hasUser(s.Users, aor) {
		return aor, withHint(fmt.Errorf("%s is not a user of this node", aor), "its users: %s", strings.Join(s.Users, ", "))
	}
	return aor, nil
}

func hasUser(users []string, aor overlay.AOR) bool {
	for _, u := range users {
		if a, err := overlay.ParseAOR(u); err == nil && a == aor {
			return true
		}
	}
	return false
}

// phone makes the phone; with a password if there is one.
func (h *handset) phone(password string, log *slog.Logger, change func(*phone.Config)) (*phone.Phone, error) {
	cfg := phone.Config{
		AOR: h.user.String(), Outbound: h.node.String(), Local: h.local, Password: password, Logger: log, ReportEvery: reportEvery,
	}
	change(&cfg)
	return phone.New(cfg)
}

// reportEvery is the mean time between two reports of what these phones hear, so that a call of ten seconds ends with
// figures from either side. RFC 3550 §6.2 allows as little as 360 s divided by the session's bandwidth in kbit/s, which is
// 160 with two streams of G.711.
const reportEvery = 2250 * time.Millisecond

// wantsPassword says that a request failed because the node wants to know who asks.
func wantsPassword(status int) bool { return status == 401 || status == 407 }

// wrongPassword says that the node does not believe the password: it asks again, and refuses in the end.
func wrongPassword(status int, reason string) bool {
	return wantsPassword(status) || status == 403 && strings.Contains(strings.ToLower(reason), "password")
}

// status asks the node how it stands; nil if it cannot be asked.
func (h *handset) status(ctx context.Context) *node.Status {
	if h.data == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	res, err := node.Ask(ctx, h.data, node.Request{Do: "status"})
	if err != nil {
		return nil
	}
	return res.Status
}
