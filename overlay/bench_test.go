package overlay_test

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/multiformats/go-multiaddr"

	"p2psip/overlay"
	"p2psip/overlay/overlaytest"
)

// far is a network in which every byte takes half a round trip each way, and some nodes have fallen silent: nothing comes
// from them any more, on old connections or new ones.
type far struct {
	oneWay time.Duration
	mu     sync.Mutex
	silent map[string]bool // guarded by mu; by listening address
}

func (f *far) dialer(multiaddr.Multiaddr) (tcp.ContextDialer, error) { return f, nil }

func (f *far) isSilent(addr string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.silent[addr]
}

// DialContext costs one round trip, or hangs towards a silent node.
func (f *far) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	wait := 2 * f.oneWay
	if f.isSilent(addr) {
		wait = time.Hour
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	fc := &farConn{Conn: c, far: f, addr: addr, out: make(chan parcel, 1024), in: make(chan parcel, 1024), done: make(chan struct{})}
	go fc.send()
	go fc.receive()
	return fc, nil
}

// farConn delays what is written and what is read; the side that dialled carries the delay of both directions.
type farConn struct {
	net.Conn
	far  *far
	addr string
	out  chan parcel
	in   chan parcel
	rest []byte
	once sync.Once
	done chan struct{}
}

type parcel struct {
	b  []byte
	at time.Time
}

func (c *farConn) Write(b []byte) (int, error) {
	select {
	case c.out <- parcel{slices.Clone(b), time.Now().Add(c.far.oneWay)}:
		return len(b), nil
	case <-c.done:
		return 0, net.ErrClosed
	}
}

func (c *farConn) send() {
	for {
		select {
		case p := <-c.out:
			time.Sleep(time.Until(p.at))
			if c.far.isSilent(c.addr) {
				continue
			}
			if _, err := c.Conn.Write(p.b); err != nil {
				c.Close()
				return
			}
		case <-c.done:
			return
		}
	}
}

func (c *farConn) receive() {
	defer close(c.in)
	for {
		b := make([]byte, 16<<10)
		n, err := c.Conn.Read(b)
		if err != nil {
			return
		}
		if c.far.isSilent(c.addr) {
			continue
		}
		select {
		case c.in <- parcel{b[:n], time.Now().Add(c.far.oneWay)}:
		case <-c.done:
			return
		}
	}
}

func (c *farConn) Read(b []byte) (int, error) {
	if len(c.rest) == 0 {
		p, ok := <-c.in
		if !ok {
			return 0, io.EOF
		}
		time.Sleep(time.Until(p.at))
		c.rest = p.b
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *farConn) Close() error {
	c.once.Do(func() { close(c.done) })
	return c.Conn.Close()
}

// BenchmarkFar measures publishing and looking up among 100 real nodes, 80 ms from each other, before and after a fifth
// of them falls silent. The figures are in BENCHMARKS.md.
func BenchmarkFar(b *testing.B) {
	const nodes, silent = 100, 20
	f := &far{oneWay: 40 * time.Millisecond, silent: map[string]bool{}}
	u := overlaytest.New(b, nodes, func(i int, c *overlay.Config) {
		h, err := overlay.NewHost(overlay.HostConfig{Key: c.Key, Listen: c.Listen, Dial: f.dialer})
		if err != nil {
			b.Fatal(err)
		}
		c.Host = h
	})
	for _, p := range u.Peers {
		for p.Status().Routing < 20 {
			time.Sleep(10 * time.Millisecond)
		}
	}
	for _, state := range []string{"all alive", "20% silent"} {
		if state != "all alive" {
			for _, p := range u.Peers[nodes-silent:] {
				m, err := multiaddr.NewMultiaddr(p.Addrs()[0])
				if err != nil {
					b.Fatal(err)
				}
				port, err := m.ValueForProtocol(multiaddr.P_TCP)
				if err != nil {
					b.Fatal(err)
				}
				f.mu.Lock()
				f.silent["127.0.0.1:"+port] = true
				f.mu.Unlock()
			}
		}
		b.Run(state, func(b *testing.B) {
			var publish, first, unknown []time.Duration
			for i := range b.N {
				a := u.AOR(b, "user"+strconv.Itoa(i%(nodes-silent)))
				p := u.Peers[i%(nodes-silent)]
				start := time.Now()
				if err := p.Registrations().Set(context.Background(), a, []overlay.Device{{ID: "x"}}); err != nil {
					b.Fatal(err)
				}
				publish = append(publish, time.Since(start))

				q := u.Peers[(i*37+11)%(nodes-silent)]
				l := q.Lookup(context.Background(), a)
				start = time.Now()
				if _, err := l.Next(context.Background()); err != nil {
					b.Fatal(err)
				}
				first = append(first, time.Since(start))
				l.Stop()

				l = q.Lookup(context.Background(), u.AOR(b, "nobody"+strconv.Itoa(i)))
				start = time.Now()
				if _, err := l.Next(context.Background()); !errors.Is(err, overlay.ErrUnknownUser) {
					b.Fatal(err)
				}
				unknown = append(unknown, time.Since(start))
			}
			report := func(name string, d []time.Duration) {
				slices.Sort(d)
				b.ReportMetric(float64(d[len(d)/2].Milliseconds()), name+"_p50_ms")
				b.ReportMetric(float64(d[len(d)*95/100].Milliseconds()), name+"_p95_ms")
			}
			b.ReportMetric(0, "ns/op")
			report("publish", publish)
			report("lookup", first)
			report("unknown", unknown)
		})
	}
}
