package main

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"p2psip/cmd/p2psip/node"
	"p2psip/relaypeer"
	"p2psip/relaypeer/datapath"
)

// defaultDrain is how long a relay peer that is told to stop waits for the calls it carries: most have ended, or found another
// relay peer, by then, and no service manager has lost its patience.
const defaultDrain = 30 * time.Second

func relayFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "relay", Usage: "carry the sound of other members' calls: `SOCKET` for them, such as udp:192.0.2.1:3478, tcp:[2001:db8::1]:3478, tls:192.0.2.1:443, or udp:10.0.0.2:3478=192.0.2.1:3478 behind a NAT; needs a credential with the role relay"},
		&cli.StringSliceFlag{Name: "relay-allow", Usage: "`CIDR` of a network that is not public and that may be sent to, for closed networks"},
		&cli.BoolFlag{Name: "relay-assume-reachable", Usage: "advertise the sockets without asking others whether they reach them, for closed networks"},
		&cli.StringFlag{Name: "relay-cert", Usage: "`FILE` with a certificate for tls sockets, in PEM form (default: one made on the fly)"},
		&cli.StringFlag{Name: "relay-key", Usage: "`FILE` with its key, in PEM form"},
		&cli.StringFlag{Name: "relay-ports", Usage: fmt.Sprintf("`RANGE` of ports for relayed addresses (default: %d-%d)", datapath.DefaultMinPort, datapath.DefaultMaxPort)},
		&cli.StringFlag{Name: "relay-allocations", Usage: "`N[/M]` relayed addresses in all, and M for one member (default: 1000/48)"},
		&cli.StringFlag{Name: "relay-rate", Usage: "`MBIT[/M]` megabits a second in all, and M for one member; none: no limit (default: 100/10)"},
		&cli.StringFlag{Name: "relay-month", Usage: "`GIB[/M]` gibibytes a month in all, and M for one member; none: no limit (default: 500/50)"},
		&cli.DurationFlag{Name: "relay-drain", Value: defaultDrain, Usage: fmt.Sprintf("`TIME` to wait at the end for the calls that are relayed (default: %s)", defaultDrain)},
	}
}

// relayRole makes of the flags what the node needs for the role, nil if it is not asked for.
func relayRole(c *cli.Context, cfg node.Config) (_ *node.RelayRole, err error) {
	sockets := c.StringSlice("relay")
	if len(sockets) == 0 {
		for _, f := range relayFlags()[1:] {
			if name := f.Names()[0]; c.IsSet(name) {
				return nil, withHint(usagef("--%s is for relay peers", name), "add --relay udp:192.0.2.1:3478")
			}
		}
		return nil, nil
	}
	r := &node.RelayRole{AssumeReachable: c.Bool("relay-assume-reachable"), Drain: c.Duration("relay-drain")}
	for _, s := range c.StringSlice("relay-allow") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, withHint(usagef("--relay-allow: %q is no network", s), "such as 192.168.1.0/24 or fd00::/8")
		}
		r.Allow = append(r.Allow, p.Masked())
	}
	if r.MinPort, r.MaxPort, err = portRange(c.String("relay-ports")); err != nil {
		return nil, err
	}
	if err := relayLimits(c, &r.Limits); err != nil {
		return nil, err
	}
	cert, key := c.String("relay-cert"), c.String("relay-key")
	if (cert == "") != (key == "") {
		return nil, withHint(usagef("--relay-cert and --relay-key belong together"), "such as --relay-cert cert.pem --relay-key key.pem")
	}
	config, err := node.RelayTLS(cert, key, cfg)
	if err != nil {
		return nil, withHint(err, "--relay-cert and --relay-key name files in PEM form")
	}
	if r.Loop, err = datapath.NewLoop(datapath.LoopOptions{}); err != nil {
		return nil, err
	}
	for _, text := range sockets {
		s, err := node.OpenRelay(r.Loop, text, config)
		if err != nil {
			r.Close()
			return nil, relayHint(fmt.Errorf("--relay: %w", err))
		}
		r.Sockets = append(r.Sockets, s)
	}
	return r, nil
}

// relayHint adds what to do to an error of a relay peer's socket.
func relayHint(err error) error {
	var no syscall.Errno
	if errors.As(err, &no) {
		return withHint(err, "give relay peers an address of this machine, and a port that is free; behind a NAT: udp:10.0.0.2:3478=192.0.2.1:3478")
	}
	return withHint(err, "a transport, an address and a port, such as udp:192.0.2.1:3478")
}

func portRange(s string) (first, last uint16, err error) {
	if s == "" {
		return 0, 0, nil
	}
	a, b, _ := strings.Cut(s, "-")
	m, err1 := strconv.ParseUint(a, 10, 16)
	n, err2 := strconv.ParseUint(b, 10, 16)
	if err1 != nil || err2 != nil || m == 0 || n < m {
		return 0, 0, withHint(usagef("--relay-ports: %q is no range of ports", s), "such as 49152-65535")
	}
	return uint16(m), uint16(n), nil
}

// relayLimits reads the limits: what all may use, and behind a slash what one member may.
func relayLimits(c *cli.Context, l *relaypeer.Limits) error {
	var all, one int64
	if err := pair(c, "relay-allocations", 1, &all, &one); err != nil {
		return err
	}
	if all < 0 || one < 0 {
		return withHint(usagef("--relay-allocations: there is a limit to everything"), "such as 1000/48")
	}
	l.Allocations, l.PerMember = int(all), int(one)
	if err := pair(c, "relay-rate", 1e6/8, &l.Rate, &l.MemberRate); err != nil {
		return err
	}
	return pair(c, "relay-month", 1<<30, &l.Month, &l.MemberMonth)
}

// pair reads "N" or "N/M" in some unit; what is not given stays 0, and none is -1.
func pair(c *cli.Context, flag string, unit float64, all, one *int64) error {
	text := c.String(flag)
	if text == "" {
		return nil
	}
	a, b, both := strings.Cut(text, "/")
	for _, v := range []struct {
		s   string
		set bool
		to  *int64
	}{{a, true, all}, {b, both, one}} {
		if !v.set {
			continue
		}
		if v.s == "none" {
			*v.to = -1
			continue
		}
		f, err := strconv.ParseFloat(v.s, 64)
		if err != nil || math.IsNaN(f) || f*unit < 1 || f*unit > 1<<60 {
			return withHint(usagef("--%s: %q is no limit", flag, text), "a number, or two with a slash between them: for all, and for one member")
		}
		*v.to = int64(f * unit)
	}
	return nil
}

// relayRows tells how the role of a relay peer stands.
func relayRows(r node.RelayStatus) (rows [][]string) {
	if !r.Role {
		return nil
	}
	for i, v := range r.Services {
		state := v.Good
		switch {
		case v.Good == "":
			state = "not advertised"
		case v.Confirmed > 0:
			state = fmt.Sprintf("%s: %d", v.Good, v.Confirmed)
		}
		rows = append(rows, []string{first(i, "relay peer at"), v.URI + "  (" + state + ")"})
	}
	month := relaypeer.Size(r.Month)
	if r.MonthLimit > 0 {
		month += " of " + relaypeer.Size(r.MonthLimit)
	}
	load := fmt.Sprintf("%d of %d addresses, %d in use, by %s", r.Now, r.Capacity, r.InUse, plural(r.Members, "member"))
	if r.Draining {
		load += "; it takes no new ones"
	}
	return append(rows,
		[]string{"advertised at", plural(r.Adverts, "node")},
		[]string{"relayed", load},
		[]string{"this month", month + ", now " + relaypeer.Size(r.Speed) + "/s"},
		[]string{"not relayed", fmt.Sprintf("%d requests refused, %d forbidden, %d limited, %d malformed", r.Refusals, r.Forbidden, r.Limited, r.Malformed)})
}
