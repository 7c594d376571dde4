package media

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"
)

func TestPortsRestBeforeTheyAreUsedAgain(t *testing.T) {
	now := time.Unix(1000, 0)
	p := newPortPool(29000, 29005, func() time.Time { return now })
	if p.size() != 3 {
		t.Fatalf("%d pairs", p.size())
	}
	var pairs []*portPair
	for range 3 {
		pair, err := p.open(loopback4)
		if err != nil {
			t.Fatal(err)
		}
		if port := pair.at.Port(); port%2 != 0 || pair.rtcp.LocalAddr().(*net.UDPAddr).Port != int(port)+1 {
			t.Errorf("a pair at %v and %v", pair.at, pair.rtcp.LocalAddr())
		}
		pairs = append(pairs, pair)
	}
	if _, err := p.open(loopback4); !errors.Is(err, errNoPorts) {
		t.Errorf("a fourth pair of three: %v", err)
	}
	other, err := p.open(netip.MustParseAddr("127.0.0.2")) // each address has the whole range
	if err != nil {
		t.Fatal(err)
	}
	other.Close()
	freed := pairs[1].at
	pairs[1].Close()
	pairs[1].Close()
	if n := p.inUse(); n != 2 {
		t.Errorf("%d in use", n)
	}
	if _, err := p.open(loopback4); !errors.Is(err, errNoPorts) {
		t.Errorf("a pair is used again at once: %v", err)
	}
	now = now.Add(portRest)
	again, err := p.open(loopback4)
	if err != nil || again.at != freed {
		t.Fatalf("%v, %v", again, err)
	}
	for _, pair := range []*portPair{again, pairs[0], pairs[2]} {
		pair.Close()
	}
	if p.inUse() != 0 {
		t.Error("in use after everything was closed")
	}
	if _, err := p.open(netip.MustParseAddr("192.0.2.77")); !errors.Is(err, errNotHere) {
		t.Errorf("an address of another machine: %v", err)
	}
}

// A port that another program has is passed over.
func TestPortsOfOthers(t *testing.T) {
	p := newPortPool(29010, 29015, time.Now)
	theirs, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 29011})
	if err != nil {
		t.Skip("somebody has the port: ", err)
	}
	defer theirs.Close()
	for range 2 {
		pair, err := p.open(loopback4)
		if err != nil {
			t.Fatal(err)
		}
		defer pair.Close()
		if pair.at.Port() == 29010 {
			t.Error("half a pair")
		}
	}
	if _, err := p.open(loopback4); !errors.Is(err, errNoPorts) {
		t.Errorf("a third pair: %v", err)
	}
}
