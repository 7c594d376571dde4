package main

import (
	"fmt"
	"testing"

	"p2psip/cmd/p2psip/node"
)

func TestRelayPeerRows(t *testing.T) {
	got := relayPeerRows([]node.RelayPeer{
		{Node: "one", RTT: 23.4, Transport: "udp", Allocations: 2, Chosen: true}, {Node: "two", RTT: 0.2, Chosen: true, Allocations: 1},
		{Node: "three"}, {Node: "four", Trouble: "nobody is there"}, {Node: "five"}, {Node: "six"}, {Node: "seven"},
	})
	want := [][]string{
		{"relay peers", "7 known, the next call uses 2"}, {"", "one, 23 ms by udp, 2 allocations"}, {"", "two, 1 ms, 1 allocation"},
		{"", "three, distance not measured, 0 allocations"}, {"", "four, left alone: nobody is there"},
		{"", "five, distance not measured, 0 allocations"}, {"", "six, distance not measured, 0 allocations"},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
