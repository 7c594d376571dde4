package datapath

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/pion/turn/v2"
)

// serveStreams gives each connection a server of its own until l is closed.
func serveStreams(t *testing.T, loop *Loop, l net.Listener, open func(Request) (Meter, error)) {
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := loop.Stream(c, Options{})
			if err != nil {
				t.Error(err)
				return
			}
			server, err := turn.NewServer(turn.ServerConfig{
				Realm: "test", AuthHandler: auth, LoggerFactory: silent(),
				PacketConnConfigs: []turn.PacketConnConfig{{PacketConn: s, RelayAddressGenerator: &Generator{
					Loop: loop, Front: s, Relay4: RelayAddress{localhost, localhost}, Open: open,
				}}},
			})
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { server.Close() })
		}
	}()
}

func TestStream(t *testing.T) {
	kinds(t, func(t *testing.T, o LoopOptions) {
		loop, err := NewLoop(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { loop.Close() })
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		opened := make(chan *testMeter, 1)
		serveStreams(t, loop, l, func(r Request) (Meter, error) {
			m := &testMeter{request: r}
			opened <- m
			return m, nil
		})
		conn, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c, err := turn.NewClient(&turn.ClientConfig{
			TURNServerAddr: l.Addr().String(), Conn: turn.NewSTUNConn(conn), Username: "dave", Password: "secret", Realm: "test", LoggerFactory: silent(),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close(); conn.Close() })
		if err := c.Listen(); err != nil {
			t.Fatal(err)
		}
		relayed, err := c.Allocate()
		if err != nil {
			t.Fatal(err)
		}
		peer := udp(t)
		var want int64
		for i := range 30 { // odd lengths, too: padding
			data := strings.Repeat("x", i*7)
			exchange(t, relayed, peer, data)
			want += int64(2*len(data) + len(" back"))
		}
		m := <-opened
		if got := m.octets.Load(); got != want || m.request.Username != "dave" || m.request.Client.String() != conn.LocalAddr().String() {
			t.Errorf("%d octets of %d were counted for %+v", got, want, m.request)
		}
		conn.Close() // the allocation goes with the connection
		relayed.Close()
		for m.closed.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		if n := loop.Stats().Allocations; n != 0 {
			t.Errorf("%d allocations are left", n)
		}
	})
}

// streamed is a connection from which r is read.
type streamed struct {
	net.Conn
	r      io.Reader
	closed bool
}

func (s *streamed) Read(b []byte) (int, error) { return s.r.Read(b) }
func (s *streamed) Close() error               { s.closed = true; return nil }
func (s *streamed) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort("198.51.100.1:4000"))
}

func TestStreamFrames(t *testing.T) {
	request := bindRequest(0x4000, peer1).Raw
	large := "\x40\x00\x07\xd0" + strings.Repeat("y", 2000)
	loop := &Loop{o: LoopOptions{}.withDefaults()}
	for _, in := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.DataErrReader} {
		c := &streamed{r: in(strings.NewReader("\x40\x01\x00\x01x\x00\x00\x00" + large + string(request) + "\x40\x02\x00\x00" + "\x40\x03\x00\x04abcd" + "\x40\x03\x00\x04ab"))}
		s, err := loop.Stream(c, Options{})
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, MaxDatagram)
		for _, want := range []string{"\x40\x01\x00\x01x", string(request), "\x40\x02\x00\x00", "\x40\x03\x00\x04abcd"} {
			n, _, err := s.ReadFrom(b)
			if err != nil || string(b[:n]) != want {
				t.Fatalf("got %q, %v, want %q", b[:n], err, want)
			}
		}
		if _, _, err := s.ReadFrom(b); !errors.Is(err, io.ErrUnexpectedEOF) || !c.closed {
			t.Errorf("at the end: %v", err)
		}
	}
}

func FuzzStream(f *testing.F) {
	f.Add([]byte("\x40\x01\x00\x01x\x00\x00\x00"))
	f.Add(bindRequest(0x4000, peer1).Raw)
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		loop := &Loop{o: LoopOptions{}.withDefaults()}
		c := &streamed{r: bytes.NewReader(in)}
		s, err := loop.Stream(c, Options{})
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, MaxDatagram)
		total := 0
		for {
			n, _, err := s.ReadFrom(b)
			if err != nil {
				break
			}
			if _, _, ok := channelData(b[:n]); !ok && b[0]>>6 != 0 {
				t.Fatalf("%x is no frame", b[:n])
			}
			total += n
		}
		if total > len(in) || !c.closed {
			t.Fatalf("%d octets of %d, closed %v", total, len(in), c.closed)
		}
	})
}
