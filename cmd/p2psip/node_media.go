package main

import (
	"github.com/urfave/cli/v2"

	"p2psip/cmd/p2psip/node"
)

func mediaFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "media", Value: "on", Usage: "`on`: the sound of phones that do no ICE goes through this node, encrypted towards other nodes; off: it does not (default: on)"},
		&cli.StringFlag{Name: "media-ports", Value: "20000-20998", Usage: "`PORTS` where phones send their sound, UDP (default: 20000-20998)"},
		&cli.BoolFlag{Name: "relay-only", Usage: "send all sound through relay peers, so that nobody called learns an address of this machine"},
	}
}

// mediaConfig makes of the flags what the node needs to move sound, nil if it is not to.
func mediaConfig(c *cli.Context) (*node.MediaConfig, error) {
	switch c.String("media") {
	case "on":
	case "off":
		for _, f := range []string{"media-ports", "relay-only"} {
			if c.IsSet(f) {
				return nil, withHint(usagef("--%s is for nodes that sound goes through", f), "leave --media off away")
			}
		}
		return nil, nil
	default:
		return nil, withHint(usagef("--media is on or off, not %q", c.String("media")), "--media off has phones see to their sound themselves")
	}
	min, max, err := node.ParseMediaPorts(c.String("media-ports"))
	if err != nil {
		return nil, withHint(usagef("--media-ports: %s", err), "such as --media-ports 20000-20998")
	}
	return &node.MediaConfig{PortMin: min, PortMax: max, RelayOnly: c.Bool("relay-only")}, nil
}
