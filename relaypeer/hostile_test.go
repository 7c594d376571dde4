package relaypeer

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/pion/stun"

	"p2psip/relaypeer/datapath"
)

// mutant makes a message that is nearly one: valid ones with octets changed, lengths that lie, attributes in any order, and
// plain noise. Some are signed properly after that.
func mutant(r *rand.Rand, c *rawClient) []byte {
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	if r.IntN(8) == 0 {
		return noise(r.IntN(1600))
	}
	if r.IntN(8) == 0 { // ChannelData, of whatever length
		b := append([]byte{0x40 | byte(r.IntN(64)), byte(r.Uint32())}, noise(2+r.IntN(200))...)
		return b
	}
	methods := []stun.Method{stun.MethodAllocate, stun.MethodRefresh, stun.MethodCreatePermission, stun.MethodChannelBind, stun.MethodBinding, stun.MethodSend, stun.MethodData, 0xfff}
	classes := []stun.MessageClass{stun.ClassRequest, stun.ClassRequest, stun.ClassRequest, stun.ClassIndication, stun.ClassSuccessResponse, stun.ClassErrorResponse}
	setters := []stun.Setter{stun.TransactionID, stun.NewType(methods[r.IntN(len(methods))], classes[r.IntN(len(classes))])}
	types := []stun.AttrType{
		stun.AttrXORPeerAddress, stun.AttrXORPeerAddress, stun.AttrChannelNumber, stun.AttrLifetime, stun.AttrRequestedTransport, stun.AttrRequestedAddressFamily,
		stun.AttrEvenPort, stun.AttrReservationToken, stun.AttrData, stun.AttrDontFragment, stun.AttrUsername, stun.AttrRealm, stun.AttrNonce,
		stun.AttrMessageIntegrity, stun.AttrFingerprint, stun.AttrErrorCode, stun.AttrType(r.Uint32()),
	}
	sizes := []int{0, 1, 3, 4, 8, 20, r.IntN(300)}
	for range r.IntN(6) {
		setters = append(setters, stun.RawAttribute{Type: types[r.IntN(len(types))], Value: noise(sizes[r.IntN(len(sizes))])})
	}
	signed := r.IntN(3) == 0
	if signed {
		setters = append(setters, stun.NewUsername(c.username), stun.NewRealm(c.realm), stun.NewNonce(c.nonce))
	}
	m, err := stun.Build(setters...)
	if err != nil {
		return noise(40)
	}
	if signed && m.Type.Method != stun.MethodRefresh { // or it would give its allocation back
		_ = stun.NewLongTermIntegrity(c.username, c.realm, c.pass).AddTo(m)
	}
	switch b := m.Raw; r.IntN(4) {
	case 0:
		return b
	case 1:
		binary.BigEndian.PutUint16(b[2:], uint16(r.Uint32()))
		return b
	case 2:
		return b[:r.IntN(len(b)+1)]
	default:
		for range 1 + r.IntN(4) {
			b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		}
		return b
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestMalformedPackets sends what is no STUN, from a stranger and from a member with an allocation; afterwards all is as before.
func TestMalformedPackets(t *testing.T) {
	total := 100_000
	if testing.Short() {
		total = 20_000
	}
	w := newWorld(t, func(c *Config) { c.Limits.Requests = 1 << 20 })
	c := w.raw(t, newMember(t))
	c.allocate(false)
	stranger := w.rawFrom(t, "", netip.MustParseAddrPort("127.0.0.9:0"))
	go func() { // answers are not read
		b := make([]byte, 2000)
		for {
			if _, err := stranger.conn.Read(b); err != nil {
				return
			}
		}
	}()
	r := rand.New(rand.NewPCG(1, 2))
	sent := 0
	took := func() int {
		d := w.Status().Data
		return int(d.Handed + d.Refused + d.LostQueue + d.LostOversize)
	}
	shoot := func(n int) {
		for range n {
			before := took()
			batch := 0
			for range 200 { // fewer than a front's queue holds
				b := mutant(r, c)
				if len(b) == 0 {
					continue
				}
				from := c.conn
				if r.IntN(2) == 0 {
					from = stranger.conn
				}
				if _, err := from.Write(b); err != nil {
					t.Fatal(err)
				}
				batch++
			}
			sent += batch
			eventually(t, "they are read", func() bool { return took() >= before+batch })
			_ = c.conn.SetReadDeadline(time.Now())
			for b := make([]byte, 2000); ; {
				if _, err := c.conn.Read(b); err != nil {
					break
				}
			}
			_ = c.conn.SetReadDeadline(time.Time{})
		}
	}
	shoot(total / 2000) // what is remembered of sources and members is bounded, but not nothing
	before, goroutines := heap(), runtime.NumGoroutine()
	shoot(total/200 - total/2000)
	after, more := heap(), runtime.NumGoroutine()
	t.Logf("%d packets: heap from %d to %d octets, goroutines from %d to %d", sent, before, after, goroutines, more)
	if after > before+1<<20 {
		t.Errorf("memory has grown by %d octets", after-before)
	}
	if more > goroutines+2 {
		t.Errorf("goroutines have grown from %d to %d", goroutines, more)
	}
	// Unless a mutant has made or ended one, the allocation is there and works.
	if code := c.ask(stun.MethodRefresh, lifetime(600)); code != 0 {
		t.Errorf("Refresh: %d", code)
	}
	if n := w.Allocations(); n != 1 {
		t.Errorf("%d allocations", n)
	}
	if s := w.Status(); s.Panics > 0 || s.Malformed == 0 || s.Stray == 0 {
		t.Errorf("%+v", s)
	}
}

// TestMalformedStreams does the same over TCP, where a connection with nonsense is ended.
func TestMalformedStreams(t *testing.T) {
	w := newWorld(t, nil)
	c := w.raw(t, newMember(t))
	r := rand.New(rand.NewPCG(3, 4))
	n := 300
	if testing.Short() {
		n = 50
	}
	for range n {
		conn, err := net.Dial("tcp4", w.tcp.String())
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if _, err := conn.Write(mutant(r, c)); err != nil {
				break
			}
		}
		conn.Close()
	}
	eventually(t, "all connections are gone", func() bool { return w.Status().Conns == 0 && w.Allocations() == 0 })
	a := allocate(t, w.client(t, TCP, newMember(t)))
	p := udpPeer(t)
	if err := a.(interface{ CreatePermissions(...net.Addr) error }).CreatePermissions(p.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	echo(t, p, a)
}

// TestFloodOfQuestions: strangers get little, and a member at the same address is served.
func TestFloodOfQuestions(t *testing.T) {
	w := newWorld(t, nil)
	flood := w.raw(t, "")
	question := func(padding int) *stun.Message {
		m := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest), transport(17))
		if padding > 0 {
			m.Add(stun.AttrSoftware, make([]byte, padding-4))
		}
		return m
	}
	ask := func(n, padding int) (answers, octets int) {
		b := make([]byte, 2000)
		start := time.Now()
		for range n / 50 {
			for range 50 {
				flood.send(question(padding).Raw)
			}
			for {
				_ = flood.conn.SetReadDeadline(time.Now().Add(2 * time.Millisecond))
				k, err := flood.conn.Read(b)
				if err != nil {
					break
				}
				answers, octets = answers+1, octets+k
			}
		}
		t.Logf("%d questions of %d octets in %s: %d answers of %d octets", n, 28+padding, time.Since(start).Round(time.Millisecond), answers, octets/max(1, answers))
		return answers, octets
	}
	start := time.Now()
	answers, octets := ask(5000, 0)
	if most := 10 + int(time.Since(start).Seconds()/3) + 1; answers > most || octets > 28*5000 {
		t.Errorf("%d answers of %d octets in all to questions that are smaller; at most %d", answers, octets, most)
	}
	start = time.Now()
	answers, octets = ask(5000, 20)
	if most := 60 + 20*(int(time.Since(start).Seconds())+1); answers > most || octets > 48*5000 {
		t.Errorf("%d answers of %d octets in all; at most %d", answers, octets, most)
	}
	if s := w.Status(); s.Limited < 5000 {
		t.Errorf("only %d were not answered", s.Limited)
	}
	// The member's first request carries the nonce that came with its credential.
	member := w.raw(t, newMember(t))
	for range 20 {
		flood.send(question(0).Raw)
	}
	if code := member.ask(stun.MethodAllocate, transport(17)); code != 0 {
		t.Errorf("a member in the flood: %d", code)
	}
	if code := member.ask(stun.MethodCreatePermission, peerOf("8.8.8.8:1")); code != 0 {
		t.Errorf("its next request: %d", code)
	}
}

// TestStrangersTogether: forged addresses do not make a relay peer an amplifier.
func TestStrangersTogether(t *testing.T) {
	s := newSources(Limits{}.withDefaults())
	now := time.Unix(1800000000, 0)
	answered := 0
	for i := range 1_000_000 {
		a := netip.AddrFrom4([4]byte{byte(10 + i>>24), byte(i >> 16), byte(i >> 8), byte(i)})
		if s.mayAnswer(a, 28, 48, now.Add(time.Duration(i)*time.Microsecond)) { // a million a second
			answered++
		}
	}
	if answered > 600 {
		t.Errorf("%d larger answers in a second", answered)
	}
	if s.len() > 16384 {
		t.Errorf("%d sources are remembered", s.len())
	}
	// A /64 is one source.
	s = newSources(Limits{}.withDefaults())
	answered = 0
	for i := range 1000 {
		b := netip.MustParseAddr("2a00:1450:4001:81b::1").As16()
		binary.BigEndian.PutUint64(b[8:], uint64(i))
		if s.mayAnswer(netip.AddrFrom16(b), 28, 48, now) {
			answered++
		}
	}
	if answered != 10 {
		t.Errorf("%d answers to one network", answered)
	}
}

// TestWhereMembersAre: many members behind one NAT find out their address, for as long as their credentials are good.
func TestWhereMembersAre(t *testing.T) {
	s := newSources(Limits{}.withDefaults())
	now := time.Unix(1800000000, 0)
	a := netip.MustParseAddr("198.20.0.1")
	s.member(a, now, now.Add(time.Hour))
	s.member(netip.Addr{}, now, now.Add(time.Hour))
	ask := func() (n int) {
		for range 100 {
			if s.mayAnswer(a, 20, 32, now) {
				n++
			}
		}
		return n
	}
	for i := range 20_000 { // forged addresses do not make it forgotten
		s.mayAnswer(netip.AddrFrom4([4]byte{11, 0, byte(i >> 8), byte(i)}), 28, 28, now)
	}
	if n := ask(); n != 100 {
		t.Errorf("%d of 100 are answered", n)
	}
	now = now.Add(time.Hour)
	if n := ask(); n != 10 {
		t.Errorf("afterwards %d are", n)
	}
}

// TestPanicCostsOneMessage: a fault in the gate is counted, and the next message is judged.
func TestPanicCostsOneMessage(t *testing.T) {
	w := newWorld(t, nil)
	g := &gate{s: w.Server} // without a map to look an allocation up in a nil front: what it answers is a fault
	b := stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw
	if n := g.judge(b, len(b), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}); n != 0 {
		t.Errorf("%d octets go on", n)
	}
	if w.Status().Panics != 1 {
		t.Error("the fault was not counted")
	}
}

// discard is a front that nobody listens to.
type discard struct{ datapath.Front }

func (discard) WriteTo(b []byte, _ net.Addr) (int, error) { return len(b), nil }

func FuzzGate(f *testing.F) {
	loop, err := datapath.NewLoop(datapath.LoopOptions{Plain: true})
	if err != nil {
		f.Fatal(err)
	}
	front, err := loop.Listen("udp4", "127.0.0.1:0", datapath.Options{})
	if err != nil {
		f.Fatal(err)
	}
	s, err := Start(Config{Loop: loop, Secret: secret, Sockets: []Socket{{Transport: UDP, Front: front}}, Limits: Limits{Requests: 1 << 30, Answers: 1 << 30}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close(); loop.Close() })
	who := newMember(f)
	user, pass := secret.Issue(who, time.Now().Add(24*time.Hour))
	r := rand.New(rand.NewPCG(5, 6))
	for range 40 {
		f.Add(mutant(r, &rawClient{username: user, pass: pass, realm: Realm, nonce: s.nonces.forMember(who.String(), time.Now())}), true)
	}
	from := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4000}
	f.Fuzz(func(t *testing.T, in []byte, signed bool) {
		if len(in) > datapath.MaxDatagram-200 {
			return
		}
		g := newGate(s, discard{}, false)
		g.nonce = "0123456789012345678901234567890123456789012345678901234567890123456789"
		a := &allocation{g: g, member: &member{name: who.String()}, client: addrPort(from), relayed: netip.MustParseAddrPort("127.0.0.1:50000"), made: time.Now(),
			permissions: map[netip.Addr]time.Time{}, channels: map[netip.AddrPort]bound{}}
		g.held5[a.client] = a
		buf := make([]byte, datapath.MaxDatagram)
		n := copy(buf, in)
		if m := (&stun.Message{Raw: append([]byte(nil), in...)}); signed && m.Decode() == nil && len(m.Raw) < 1200 {
			// What a member writes gets further.
			for _, k := range []stun.Setter{stun.NewUsername(user), stun.NewRealm(Realm), stun.NewNonce(s.nonces.forMember(who.String(), time.Now())),
				stun.NewLongTermIntegrity(user, Realm, pass)} {
				_ = k.AddTo(m)
			}
			n = copy(buf, m.Raw)
		}
		out := g.judge(buf, n, from)
		if s.stats.panics.Load() > 0 {
			t.Fatal("a fault")
		}
		if out > 0 && buf[0] < 4 {
			m := &stun.Message{Raw: buf[:out]}
			if err := m.Decode(); err != nil {
				t.Fatalf("pion gets what is no STUN: %v", err)
			}
			if m.Type.Class == stun.ClassRequest && stun.NewLongTermIntegrity(user, Realm, pass).Check(m) != nil {
				t.Fatal("pion gets a request that is not signed")
			}
			for _, attr := range m.Attributes {
				if attr.Type == stun.AttrXORPeerAddress {
					if p, ok := xorAddress(attr.Value, m.TransactionID); ok && s.peers.Permit(p.Addr()) != nil {
						t.Fatalf("pion gets a request for %s", p)
					}
				}
			}
		}
	})
}
