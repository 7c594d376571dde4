//go:build linux

package main

import (
	"strings"
	"testing"
	"time"

	"p2psip/cmd/p2psip/node"
)

// TestNATLabRelay is relay peers in homes: they are advertised where other members have reached them, and only there (draft
// §3.2).
func TestNATLabRelay(t *testing.T) {
	o := &labOverlay{lab: newNATLab(t), dir: t.TempDir(), nodes: map[string]*labNode{}}
	o.run(t, "overlay", "create", fleetOverlay, "--dir", o.dir+"/root")
	o.start(t, "pub1")
	first := o.wait(t, "pub1", "to start", func(*node.Status) bool { return true })
	join := []string{"--bootstrap", "/ip4/45.1.0.10/tcp/5080/p2p/" + first.Node}
	for _, name := range []string{"pub2", "pub3"} {
		at := strings.Replace(name, "pub", "45.", 1) + ".0.10"
		o.start(t, name, append(join, "--relay", "udp:"+at+":3478", "--relay", "tcp:"+at+":3478", "--relay", "tls:"+at+":443")...)
	}
	for _, name := range []string{"pub2", "pub3"} {
		o.wait(t, name, "to be advertised", func(s *node.Status) bool { return s.Relay.Adverts > 0 })
	}

	// Relay peers with public addresses have looked at themselves.
	if s := o.status("pub2"); len(s.Relay.Services) != 3 || s.Relay.Services[0].Good != "it is an address of this machine" {
		t.Errorf("pub2: %+v", s.Relay)
	}

	o.wait(t, "pub2", "to be tried by others", func(s *node.Status) bool { return s.Relay.Services[0].Confirmed > 0 && s.Relay.Services[0].Doubt == "" })

	// A router that hands all UDP on to this machine, as one with a forwarded port does, and lets no TCP in.
	o.start(t, "full1", append(join, "--relay", "udp:192.168.1.2:3478=45.20.0.10:3478", "--relay", "tcp:192.168.1.2:3478=45.20.0.10:3478")...)
	s := o.wait(t, "full1", "to be reached by others, and advertised", func(s *node.Status) bool {
		return len(s.Relay.Services) == 2 && s.Relay.Services[0].Confirmed >= 2 && s.Relay.Adverts > 0
	})
	udp, tcp := s.Relay.Services[0], s.Relay.Services[1]
	if udp.URI != "turn:45.20.0.10:3478?transport=udp" || udp.Local != "192.168.1.2:3478" || udp.Good != "other members have reached it" {
		t.Errorf("over UDP: %+v", udp)
	}
	if tcp.Good != "" || !strings.Contains(tcp.Trouble, "members asked have reached it") {
		t.Errorf("over TCP: %+v", tcp)
	}

	// One that lets in only what was sent to.
	o.start(t, "port1", append(join, "--relay", "udp:192.168.1.2:3478=45.24.0.10:3478")...)
	s = o.wait(t, "port1", "to be looked at", func(s *node.Status) bool {
		return len(s.Relay.Services) == 1 && strings.Contains(s.Relay.Services[0].Trouble, "members asked have reached it")
	})
	if s.Relay.Services[0].Good != "" || s.Relay.Adverts != 0 {
		t.Errorf("behind a NAT that lets nobody in: %+v", s.Relay)
	}

	// Somebody at home finds the relay peer that is behind a NAT, and gets an address there.
	o.start(t, "sym1", join...)
	home := o.status("full1").Node
	o.wait(t, "sym1", "to have a credential of the relay peer at home", func(s *node.Status) bool {
		for _, r := range s.Relays {
			if r.Node == home && r.Credential.After(time.Now()) && r.RTT > 0 {
				return true
			}
		}
		return false
	})
	if at := o.status("port1").Node; at != "" {
		for _, r := range o.status("sym1").Relays {
			if r.Node == at {
				t.Errorf("it knows the one that nobody reaches: %+v", r)
			}
		}
	}
}
