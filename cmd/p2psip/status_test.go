package main

import (
	"testing"

	"p2psip/cmd/p2psip/node"
)

func TestSoundOf(t *testing.T) {
	for want, m := range map[string]*node.CallMedia{
		"its sound does not pass through this node":          nil,
		"no sound yet, no keys yet":                          {},
		"straight, encrypted node to node":                   {Path: "host", Encrypted: "node to node"},
		"straight, through a NAT, no keys yet":               {Path: "reflexive"},
		"relayed by R, not encrypted":                        {Path: "relayed", Relays: []string{"R"}, Encrypted: "no"},
		"relayed by R, S, encrypted to the far side":         {Path: "relayed", Relays: []string{"R", "S"}, Encrypted: "to the far side"},
		"no sound yet, no keys yet; no path to the far side": {Trouble: "no path to the far side"},
	} {
		if got := soundOf(m); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
