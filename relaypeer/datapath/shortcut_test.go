//go:build linux

package datapath

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/stun"
	"github.com/pion/turn/v2"
)

// clock is a clock that a test sets.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// elsewhere is a socket on another host than that of all peers: permissions are by address, without the port.
func elsewhere(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func write(t *testing.T, c *net.UDPConn, data string, to netip.AddrPort) {
	t.Helper()
	if _, err := c.WriteToUDPAddrPort([]byte(data), to); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, c *net.UDPConn, want string) {
	t.Helper()
	if got := next(t, c); string(got) != want {
		t.Fatalf("got %q, want %q", got, want)
	}
}

// both sends a packet each way and says by which way they went.
func (s *scripted) both(peer *net.UDPConn, number uint16, data string) (short uint64) {
	s.t.Helper()
	before := s.w.loop.Stats().Short
	s.send(channelMessage(number, data))
	expect(s.t, peer, data)
	write(s.t, peer, data+"!", s.relayed)
	s.expectChannel(number, data+"!")
	s.fence()
	return s.w.loop.Stats().Short - before
}

func TestChannelTakesTheShortCut(t *testing.T) {
	w := newWorld(t, LoopOptions{}, Options{}, nil)
	s, peer := w.script(t), udp(t)
	s.mustBind(0x4000, addrPort(peer.LocalAddr()))
	for _, data := range []string{"", "a", "voice", strings.Repeat("x", 1200)} {
		if n := s.both(peer, 0x4000, data); n != 2 {
			t.Errorf("%d octets: %d packets took the short cut", len(data), n)
		}
	}
	// Padding is no data, RFC 8656 §12.5.
	s.send(append(channelMessage(0x4000, "odd"), 0))
	expect(t, peer, "odd")
	// Several channels of one allocation, and several allocations.
	other, s2 := udp(t), w.script(t)
	s.mustBind(0x7fff, addrPort(other.LocalAddr()))
	s2.mustBind(0x4000, addrPort(peer.LocalAddr()))
	if a, b, c := s.both(other, 0x7fff, "second channel"), s2.both(peer, 0x4000, "second allocation"), s.both(peer, 0x4000, "first"); a+b+c != 6 {
		t.Errorf("%d %d %d packets took the short cut", a, b, c)
	}
}

func TestChannelDataThatGoesNowhere(t *testing.T) {
	w := newWorld(t, LoopOptions{}, Options{}, nil)
	s, peer := w.script(t), udp(t)
	s.mustBind(0x4000, addrPort(peer.LocalAddr()))
	before := w.loop.Stats().Short
	s.send(channelMessage(0x4001, "a channel that is not bound"))
	s.send([]byte("\x40\x00\x00\xffshorter than it says"))
	s.send([]byte("\x40\x00\x00"))
	s.send([]byte("\x3f\xff\x00\x01x"))
	s.send([]byte("\x80\x00\x00\x01x"))
	s.send(nil)
	s.send(channelMessage(0x4000, strings.Repeat("x", MaxDatagram)))
	// The right channel, of somebody else.
	stranger := &scripted{t: t, w: w, c: udp(t)}
	stranger.send(channelMessage(0x4000, "from a stranger"))
	stranger.fence()
	s.fence()
	silence(t, peer)
	if st := w.loop.Stats(); st.Short != before || st.LostOversize != 1 {
		t.Errorf("%+v", st)
	}
	// A peer that is none.
	write(t, elsewhere(t), "no channel, no permission", s.relayed)
	s.quiet()
	if n := s.both(peer, 0x4000, "still there"); n != 2 {
		t.Errorf("%d packets took the short cut", n)
	}
}

func TestChannelOfAForbiddenPeerIsNotLearned(t *testing.T) {
	w := newWorld(t, LoopOptions{}, Options{}, func(net.IP) bool { return false })
	s, peer := w.script(t), udp(t)
	if m := s.bind(0x4000, addrPort(peer.LocalAddr())); m.Type.Class != stun.ClassErrorResponse {
		t.Fatalf("pion bound it: %v", m)
	}
	s.send(channelMessage(0x4000, "let me out"))
	write(t, peer, "let me in", s.relayed)
	s.fence()
	silence(t, peer)
	s.quiet()
	if n := w.loop.Stats().Short; n != 0 {
		t.Errorf("%d packets took the short cut", n)
	}
}

func TestChannelWithoutAuthenticationIsNotLearned(t *testing.T) {
	w := newWorld(t, LoopOptions{}, Options{}, nil)
	s, peer := w.script(t), udp(t)
	m := s.build(stun.MethodChannelBind, raw(stun.AttrChannelNumber, 0x40, 0, 0, 0), peerAddress(addrPort(peer.LocalAddr())))
	m.Raw[len(m.Raw)-1] ^= 1 // MESSAGE-INTEGRITY
	if a := s.exchange(m); a.Type.Class != stun.ClassErrorResponse {
		t.Fatalf("pion bound it: %v", a)
	}
	s.send(channelMessage(0x4000, "let me out"))
	s.fence()
	silence(t, peer)
}

func TestChannelIsNotRebound(t *testing.T) {
	w := newWorld(t, LoopOptions{}, Options{}, nil)
	s, peer, other := w.script(t), udp(t), udp(t)
	s.mustBind(0x4000, addrPort(peer.LocalAddr()))
	if m := s.bind(0x4000, addrPort(other.LocalAddr())); m.Type.Class != stun.ClassErrorResponse {
		t.Fatalf("a number for two peers: %v", m)
	}
	if m := s.bind(0x4001, addrPort(peer.LocalAddr())); m.Type.Class != stun.ClassErrorResponse {
		t.Fatalf("two numbers for a peer: %v", m)
	}
	if n := s.both(peer, 0x4000, "as before"); n != 2 {
		t.Errorf("%d packets took the short cut", n)
	}
	silence(t, other)
}

func TestNumbersOutOfRangeDoNotReachPion(t *testing.T) {
	kinds(t, func(t *testing.T, o LoopOptions) {
		w := newWorld(t, o, Options{}, nil)
		s, peer := w.script(t), udp(t)
		// 0x0109 is the type of a ChannelBind success response: what the peer sends would pass for one.
		for _, n := range []uint16{0, 0x0103, 0x0109, 0x3fff, 0x8000, 0xffff} {
			m := s.build(stun.MethodChannelBind, raw(stun.AttrChannelNumber, byte(n>>8), byte(n), 0, 0), peerAddress(addrPort(peer.LocalAddr())))
			s.send(m.Raw)
		}
		s.fence()
		if n := w.loop.Stats().Refused; n != 6 {
			t.Errorf("%d of 6 refused", n)
		}
		write(t, peer, "not permitted by any of these", s.relayed)
		s.fence()
		s.quiet()
	})
}

func TestChannelExpires(t *testing.T) {
	c := &clock{}
	w := newWorld(t, LoopOptions{Now: c.now}, Options{}, nil)
	s, peer := w.script(t), udp(t)
	s.mustBind(0x4000, addrPort(peer.LocalAddr()))
	if n := s.both(peer, 0x4000, "new"); n != 2 {
		t.Errorf("%d packets took the short cut", n)
	}
	c.advance(DefaultChannelLifetime - time.Second)
	if n := s.both(peer, 0x4000, "old"); n != 2 {
		t.Errorf("%d packets took the short cut", n)
	}
	c.advance(2 * time.Second)
	if n := s.both(peer, 0x4000, "too old, and still pion's"); n != 0 {
		t.Errorf("%d packets took the short cut after the lifetime", n)
	}
	s.mustBind(0x4000, addrPort(peer.LocalAddr()))
	if n := s.both(peer, 0x4000, "renewed"); n != 2 {
		t.Errorf("%d packets took the short cut", n)
	}
}

func TestChannelIsRenewedInTime(t *testing.T) {
	c := &clock{}
	w := newWorld(t, LoopOptions{Now: c.now}, Options{}, nil)
	s, peer := w.script(t), udp(t)
	for range 5 {
		s.mustBind(0x4000, addrPort(peer.LocalAddr()))
		c.advance(DefaultChannelLifetime * 3 / 4)
		if n := s.both(peer, 0x4000, "on and on"); n != 2 {
			t.Errorf("%d packets took the short cut", n)
		}
	}
}

// TestMoreChannelsThanTheShortCutTakes leaves those beyond to pion.
func TestMoreChannelsThanTheShortCutTakes(t *testing.T) {
	w := newWorld(t, LoopOptions{}, Options{}, nil)
	s := w.script(t)
	var short uint64
	for i := range uint16(maxChannels + 6) {
		peer := udp(t)
		s.mustBind(0x4000+i, addrPort(peer.LocalAddr()))
		short += s.both(peer, 0x4000+i, "one of many")
	}
	if short != 2*maxChannels {
		t.Errorf("%d packets took the short cut", short)
	}
}

// TestChannelExpiresNotAfterPions lets pion forget a channel, whose lifetime is short here, and looks whether the short cut has.
func TestChannelExpiresNotAfterPions(t *testing.T) {
	const lifetime = 300 * time.Millisecond
	w := newWorld(t, LoopOptions{}, Options{ChannelLifetime: lifetime}, nil)
	s, peer := w.script(t), udp(t)
	bound := time.Now()
	s.mustBind(0x4000, addrPort(peer.LocalAddr()))
	latest := time.Now().Add(lifetime)
	for time.Now().Before(latest.Add(50 * time.Millisecond)) {
		before := w.loop.Stats().Short
		sent := time.Now()
		s.send(channelMessage(0x4000, "?"))
		s.fence()
		switch short := w.loop.Stats().Short > before; {
		case short && sent.After(latest):
			t.Fatalf("the short cut was there %v after the binding", sent.Sub(bound))
		case !short && time.Now().Before(bound.Add(lifetime)):
			t.Fatalf("there was no short cut %v after the binding", sent.Sub(bound))
		}
	}
}

func TestAllocationEndsAtOnce(t *testing.T) {
	w := newWorld(t, LoopOptions{}, Options{}, nil)
	s, peer := w.script(t), udp(t)
	s.mustBind(0x4000, addrPort(peer.LocalAddr()))
	s.both(peer, 0x4000, "alive")
	m := w.meters.Load()
	if a := s.signed(stun.MethodRefresh, raw(stun.AttrLifetime, 0, 0, 0, 0)); a.Type.Class != stun.ClassSuccessResponse {
		t.Fatal(a)
	}
	if n := m.closed.Load(); n != 1 {
		t.Errorf("the meter was closed %d times", n)
	}
	before := w.loop.Stats().Short
	s.send(channelMessage(0x4000, "dead"))
	write(t, peer, "dead", s.relayed)
	s.fence()
	silence(t, peer)
	s.quiet()
	if st := w.loop.Stats(); st.Short != before || st.Allocations != 0 {
		t.Errorf("%+v", st)
	}
	e := w.loop.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := len(w.front.s.(*frontSocket).clients); n != 0 {
		t.Errorf("%d clients are remembered", n)
	}
	w.front.o.mu.Lock()
	defer w.front.o.mu.Unlock()
	if n := len(w.front.o.clients); n != 0 {
		t.Errorf("the observer remembers %d clients", n)
	}
}

func TestMeterForbids(t *testing.T) {
	kinds(t, func(t *testing.T, o LoopOptions) {
		w := newWorld(t, o, Options{}, nil)
		s, peer := w.script(t), udp(t)
		s.mustBind(0x4000, addrPort(peer.LocalAddr()))
		s.both(peer, 0x4000, "four")
		m := w.meters.Load()
		if n := m.octets.Load(); n != 9 {
			t.Errorf("%d octets were counted", n)
		}
		m.forbid.Store(true)
		s.send(channelMessage(0x4000, "no more"))
		write(t, peer, "no more", s.relayed)
		s.fence()
		silence(t, peer)
		s.quiet()
		if n := w.loop.Stats().LostMeter; n != 2 {
			t.Errorf("%d packets were forbidden", n)
		}
		m.forbid.Store(false)
		s.both(peer, 0x4000, "go on")
		// What strangers send to the relayed address does not count.
		write(t, elsewhere(t), "stranger", s.relayed)
		s.quiet()
		if n := m.octets.Load(); n != 9+5+6 {
			t.Errorf("%d octets were counted", n)
		}
	})
}

func TestPeersWithPermissionOnly(t *testing.T) {
	kinds(t, func(t *testing.T, o LoopOptions) {
		w := newWorld(t, o, Options{}, nil)
		s, peer := w.script(t), udp(t)
		a := addrPort(peer.LocalAddr())
		if m := s.signed(stun.MethodCreatePermission, peerAddress(a)); m.Type.Class != stun.ClassSuccessResponse {
			t.Fatal(m)
		}
		s.send(stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodSend, stun.ClassIndication), peerAddress(a), raw(stun.AttrData, []byte("out")...)).Raw)
		expect(t, peer, "out")
		write(t, peer, "back", s.relayed)
		m := &stun.Message{Raw: s.receive()}
		data, err := stun.RawAttribute{}, m.Decode()
		if data.Value, _ = m.Get(stun.AttrData); err != nil || string(data.Value) != "back" {
			t.Errorf("got %v, %v", m, err)
		}
		if n := w.meters.Load().octets.Load(); n != 7 {
			t.Errorf("%d octets were counted", n)
		}
	})
}

// TestPanicCostsABatch lets a meter panic.
func TestPanicCostsABatch(t *testing.T) {
	var bad atomic.Bool
	w := newWorld(t, LoopOptions{}, Options{}, nil, func(g *Generator) {
		g.Open = func(Request) (Meter, error) { return panicky{&bad}, nil }
	})
	s, peer := w.script(t), udp(t)
	s.mustBind(0x4000, addrPort(peer.LocalAddr()))
	s.both(peer, 0x4000, "fine")
	bad.Store(true)
	s.send(channelMessage(0x4000, "bad"))
	for w.loop.Stats().Panics == 0 {
		time.Sleep(time.Millisecond)
	}
	bad.Store(false)
	if n := s.both(peer, 0x4000, "fine again"); n != 2 {
		t.Errorf("%d packets took the short cut", n)
	}
}

type panicky struct{ bad *atomic.Bool }

func (p panicky) Take(int) bool {
	if p.bad.Load() {
		panic("a meter's own fault")
	}
	return true
}
func (panicky) Close() {}

// TestClosingUnderFire ends allocations, fronts and the loop while packets fly; the race detector and goleak look on.
func TestClosingUnderFire(t *testing.T) {
	for range 5 {
		w := newWorld(t, LoopOptions{Interval: 100 * time.Microsecond}, Options{}, nil)
		peer := udp(t)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		var all []*scripted
		for range 8 {
			s := w.script(t)
			s.mustBind(0x4000, addrPort(peer.LocalAddr()))
			all = append(all, s)
		}
		for _, s := range all {
			wg.Go(func() {
				to, relayed := addrPort(w.front.LocalAddr()), s.relayed
				for {
					select {
					case <-stop:
						return
					default:
					}
					_, _ = s.c.WriteToUDPAddrPort(channelMessage(0x4000, "fire"), to)
					_, _ = peer.WriteToUDPAddrPort([]byte("fire"), relayed)
				}
			})
		}
		for _, s := range all[:4] {
			s.send(s.build(stun.MethodRefresh, raw(stun.AttrLifetime, 0, 0, 0, 0)).Raw)
		}
		for w.loop.Stats().Allocations > 4 || w.loop.Stats().Short < 100 {
			time.Sleep(time.Millisecond)
		}
		if err := w.server.Close(); err != nil {
			t.Error(err)
		}
		if err := w.loop.Close(); err != nil {
			t.Error(err)
		}
		close(stop)
		wg.Wait()
	}
}

func TestQueuesAreBounded(t *testing.T) {
	loop, err := NewLoop(LoopOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer loop.Close()
	front, err := loop.Listen("udp4", "127.0.0.1:0", Options{Queue: 8}) // which nobody reads
	if err != nil {
		t.Fatal(err)
	}
	c := udp(t)
	for range 100 {
		write(t, c, "flood", addrPort(front.LocalAddr()))
	}
	for loop.Stats().LostQueue < 94 {
		time.Sleep(time.Millisecond)
	}
	q := front.s.(*frontSocket).q
	q.mu.Lock()
	n, room := q.n, len(q.ring)
	q.mu.Unlock()
	if n != 6 || room != 8 { // a quarter is kept free of strangers
		t.Errorf("%d packets wait, in room for %d", n, room)
	}
	b := make([]byte, 10)
	for range 6 {
		if n, _, err := front.ReadFrom(b); err != nil || string(b[:n]) != "flood" {
			t.Fatalf("%q %v", b[:n], err)
		}
	}
}

// TestBatches sends more at once than one batch holds.
func TestBatches(t *testing.T) {
	w := newWorld(t, LoopOptions{Interval: 2 * time.Millisecond}, Options{}, nil)
	const clients, each = 20, 30
	var all []*scripted
	peer := udp(t)
	_ = peer.SetReadBuffer(4 << 20)
	for range clients {
		s := w.script(t)
		s.mustBind(0x4000, addrPort(peer.LocalAddr()))
		all = append(all, s)
	}
	for i := range each {
		for _, s := range all {
			s.send(channelMessage(0x4000, string(rune('A'+i))))
			write(t, peer, string(rune('A'+i)), s.relayed)
		}
	}
	seen := map[string]int{}
	for range clients * each {
		seen[string(next(t, peer))]++
	}
	for i := range each {
		if n := seen[string(rune('A'+i))]; n != clients {
			t.Errorf("packet %d arrived %d times", i, n)
		}
		for _, s := range all {
			s.expectChannel(0x4000, string(rune('A'+i))) // in order
		}
	}
	st := w.loop.Stats()
	if st.Short != 2*clients*each {
		t.Errorf("%+v", st)
	}
	t.Logf("%d packets in %d rounds", st.Short, st.Rounds)
}

// TestTwoLoopsShareAPort has clients served by two loops, each with its own thread.
func TestTwoLoopsShareAPort(t *testing.T) {
	first := newWorld(t, LoopOptions{}, Options{ReusePort: true}, nil)
	second, err := NewLoop(LoopOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { second.Close() })
	front, err := second.Listen("udp4", first.front.LocalAddr().String(), Options{ReusePort: true})
	if err != nil {
		t.Fatal(err)
	}
	server, err := turn.NewServer(turn.ServerConfig{Realm: "test", AuthHandler: auth, LoggerFactory: silent(), PacketConnConfigs: []turn.PacketConnConfig{{
		PacketConn: front, RelayAddressGenerator: &Generator{Loop: second, Front: front, Relay4: RelayAddress{localhost, localhost}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	peer := udp(t)
	for i := 0; first.loop.Stats().Short == 0 || second.Stats().Short == 0; i++ {
		if i == 100 {
			t.Fatalf("of 100 clients the first loop served %d, the second %d", first.loop.Stats().Allocations, second.Stats().Allocations)
		}
		s := first.script(t)
		s.mustBind(0x4000, addrPort(peer.LocalAddr()))
		s.send(channelMessage(0x4000, "hello"))
		expect(t, peer, "hello")
		s.fence()
	}
}

func TestStrangersLeaveRoomForClients(t *testing.T) {
	q := newQueue(8, true)
	stranger, client := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:2")
	taken := [2]int{}
	for range 20 {
		if q.push([]byte("x"), stranger, false) {
			taken[0]++
		}
	}
	for range 20 {
		if q.push([]byte("y"), client, true) {
			taken[1]++
		}
	}
	if taken != [2]int{6, 2} {
		t.Errorf("taken %v", taken)
	}
	for i := range 8 { // in order
		want := "x"
		if i >= 6 {
			want = "y"
		}
		b := make([]byte, 2)
		if n, _, err := q.pop(b); err != nil || string(b[:n]) != want {
			t.Errorf("%d: %q %v", i, b[:n], err)
		}
	}
	q.close()
	if q.push(nil, client, true) {
		t.Error("a closed queue takes packets")
	}
}
