package main

import (
	"fmt"
	"math"

	"p2psip/cmd/p2psip/node"
)

// shownRelays is how many relay peers status tells about; --json tells about all.
const shownRelays = 6

// relayPeerRows tells how the relay peers stand that calls would use.
func relayPeerRows(relays []node.RelayPeer) [][]string {
	used := 0
	for _, r := range relays {
		if r.Chosen {
			used++
		}
	}
	rows := [][]string{{"relay peers", fmt.Sprintf("%d known, the next call uses %d", len(relays), used)}}
	for _, r := range relays[:min(len(relays), shownRelays)] {
		if r.Trouble != "" {
			rows = append(rows, []string{"", r.Node + ", left alone: " + r.Trouble})
			continue
		}
		far := "distance not measured"
		if r.RTT > 0 {
			far = fmt.Sprintf("%.0f ms", math.Max(1, r.RTT))
		}
		if r.Transport != "" {
			far += " by " + r.Transport
		}
		rows = append(rows, []string{"", fmt.Sprintf("%s, %s, %s", r.Node, far, plural(r.Allocations, "allocation"))})
	}
	return rows
}
