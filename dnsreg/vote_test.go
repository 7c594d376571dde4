package dnsreg

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"p2psip/overlay"
	"p2psip/overlay/overlaytest"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// Members try a proxy peer on request: what it offers by its own word, and nothing else.
func TestVote(t *testing.T) {
	u := overlaytest.NewWithRoles(t, 5, func(i int) []overlay.Role {
		if i < 2 {
			return overlay.Roles()
		}
		return nil
	}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	// Proxy peer 0 answers; proxy peer 1 says that it does.
	at := answeringSIP(t)
	dead := netip.MustParseAddrPort(closedPort(t))
	for i, a := range []netip.AddrPort{at, dead} {
		f, err := u.Peers[i].Offer(overlay.RoleProxy, func() overlay.Offer {
			return overlay.Offer{Services: []string{fmt.Sprintf("sip:%s;transport=udp", a)}}
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
	}
	booth := func(i int, override []netip.Prefix) *Booth {
		b, err := NewBooth(VoterConfig{OID: overlaytest.ID, Members: u.Peers[i], Override: override,
			Network: func(n overlay.NodeID, _ netip.Addr) string { return n.String() }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		u.Peers[i].HandleService(overlay.ServiceVote, b.Serve)
		return b
	}
	booth(2, loopback)
	booth(3, nil) // which tries nothing on loopback
	asker := booth(4, loopback)
	there := func() bool { // advertisements and connections come by themselves
		for _, p := range u.Peers[:2] {
			if _, err := u.Peers[4].AskRole(ctx, overlay.RoleProxy, p.ID()); err != nil {
				return false
			}
		}
		return len(u.Peers[4].Connected()) == 4
	}
	for ; !there(); time.Sleep(10 * time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatal("the members do not come together")
		}
	}
	votes, err := asker.Vote(ctx, Peer{Node: u.Peers[0].ID()})
	if err != nil || len(votes) != 1 || votes[0].By != u.Peers[2].ID() || votes[0].Group != u.Peers[2].ID().String() {
		t.Errorf("votes %+v, %v", votes, err)
	}
	votes, err = asker.Vote(ctx, Peer{Node: u.Peers[0].ID()})
	if err == nil || len(votes) != 0 || !strings.Contains(err.Error(), "tried a moment ago") {
		t.Errorf("again at once: %+v, %v", votes, err)
	}
	if votes, err = asker.Vote(ctx, Peer{Node: u.Peers[1].ID()}); err == nil || len(votes) != 0 {
		t.Errorf("one that does not answer: %+v, %v", votes, err)
	}
	if votes, err = asker.Vote(ctx, Peer{Node: u.Peers[3].ID()}); err == nil || len(votes) != 0 || !strings.Contains(err.Error(), "does not say that it is a proxy peer") {
		t.Errorf("one that is none: %+v, %v", votes, err)
	}
	asker.Close()
	if _, err := asker.Vote(ctx, Peer{Node: u.Peers[0].ID()}); err == nil {
		t.Error("a closed booth votes")
	}
}

// answeringSIP answers OPTIONS over UDP.
func answeringSIP(t *testing.T) netip.AddrPort {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			_, b, _ := strings.Cut(response(string(buf[:n]), 200), "\r\n\r\n")
			_, _ = pc.WriteTo([]byte(b), from)
		}
	}()
	t.Cleanup(func() { pc.Close(); <-done })
	return pc.LocalAddr().(*net.UDPAddr).AddrPort()
}

// What strangers send as votes is read within bounds.
func FuzzVoteLine(f *testing.F) {
	for _, s := range []string{"{\"node\":\"x\"}\n", "{\"reached\":true}\n", "{", "\n", strings.Repeat("[", 600)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := strings.NewReader(s + strings.Repeat("x", 4096))
		_, _ = readVoteLine[voteQuestion](r)
		if left, _ := io.Copy(io.Discard, r); int(left) < len(s)+4096-maxVoteLine {
			t.Errorf("%d octets were read", len(s)+4096-int(left))
		}
		_, _ = readVoteLine[voteAnswer](strings.NewReader(s))
	})
}
