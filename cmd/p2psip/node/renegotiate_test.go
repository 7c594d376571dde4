package node

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"p2psip/overlay"
)

func TestMediaQuestion(t *testing.T) {
	b, err := appendQuestion(nil, "token", []byte("v=0"))
	if err != nil {
		t.Fatal(err)
	}
	token, offer, err := readQuestion(bytes.NewReader(b))
	if err != nil || token != "token" || string(offer) != "v=0" {
		t.Errorf("%q %q %v", token, offer, err)
	}
	for name, bad := range map[string][]byte{
		"nothing": nil, "a version": {2, 1, 'x', 0, 1, 'o'}, "no token": {1, 0, 0, 1, 'o'}, "no offer": {1, 1, 'x', 0, 0},
		"cut off": b[:len(b)-1], "a long token": append([]byte{1, 65}, make([]byte, 80)...), "a long offer": {1, 1, 'x', 0x40, 0x01},
	} {
		if _, _, err := readQuestion(bytes.NewReader(bad)); !errors.Is(err, errMediaMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range []struct {
		token string
		offer []byte
	}{{"", []byte("v")}, {strings.Repeat("x", 65), []byte("v")}, {"x", nil}, {"x", make([]byte, maxMediaSDP+1)}} {
		if _, err := appendQuestion(nil, bad.token, bad.offer); err == nil {
			t.Errorf("written: %d bytes of token, %d of offer", len(bad.token), len(bad.offer))
		}
	}
}

func TestMediaAnswer(t *testing.T) {
	b, err := appendAnswer(nil, mediaAnswer, []byte("v=0"))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := readAnswer(bytes.NewReader(b)); err != nil || string(out) != "v=0" {
		t.Errorf("%q %v", out, err)
	}
	b, _ = appendAnswer(nil, mediaRefusal, []byte(strings.Repeat("no\n", 100)))
	if _, err := readAnswer(bytes.NewReader(b)); !errors.Is(err, errMediaRefused) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
	if _, err := appendAnswer(nil, mediaAnswer, nil); err == nil {
		t.Error("an empty answer was written")
	}
	for _, bad := range [][]byte{nil, {2, 0, 0}, {0, 0, 0}, {0, 0xff, 0xff}, {1, 1, 0}, {0, 0, 2, 'v'}} {
		if _, err := readAnswer(bytes.NewReader(bad)); !errors.Is(err, errMediaMalformed) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func FuzzMediaQuestion(f *testing.F) {
	b, _ := appendQuestion(nil, "token", []byte("v=0\r\n"))
	f.Add(b)
	f.Add([]byte{1, 1, 'x', 0x40, 0x01})
	f.Fuzz(func(t *testing.T, in []byte) {
		token, offer, err := readQuestion(bytes.NewReader(in))
		if err != nil {
			return
		}
		b, err := appendQuestion(nil, token, offer)
		if err != nil || !bytes.HasPrefix(in, b) {
			t.Fatalf("%q read as %q and %q, written as %q (%v)", in, token, offer, b, err)
		}
	})
}

func FuzzMediaAnswer(f *testing.F) {
	for kind, text := range []string{"v=0\r\n", "no"} {
		b, _ := appendAnswer(nil, byte(kind), []byte(text))
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		out, err := readAnswer(bytes.NewReader(in))
		if err != nil {
			return
		}
		if b, err := appendAnswer(nil, mediaAnswer, out); err != nil || !bytes.HasPrefix(in, b) {
			t.Fatalf("%q read as %q, written as %q (%v)", in, out, b, err)
		}
	})
}

// TestRenegotiate carries an offer between two nodes, and holds back one that asks too much.
func TestRenegotiate(t *testing.T) {
	u := newUniverse(t)
	here, there := u.start(u.config(u.home("alice"))), u.start(u.config(u.home("bob")))
	var mu sync.Mutex
	var asked []string
	hold := make(chan struct{})
	busy := make(chan struct{}, maxMediaStreams)
	serving := newMediaStreams(there.overlay, func(overlay.NodeID) {}, there.log)
	serving.serve(func(ctx context.Context, node overlay.NodeID, token string, offer []byte) ([]byte, error) {
		mu.Lock()
		asked = append(asked, node.String()+" "+token+" "+string(offer))
		mu.Unlock()
		switch token {
		case "known":
			return []byte("answer"), nil
		case "slow":
			busy <- struct{}{}
			select {
			case <-hold:
			case <-ctx.Done():
			}
			return []byte("late"), nil
		}
		return nil, errors.New("a secret reason")
	})
	defer serving.close()
	dropped := 0
	asking := newMediaStreams(here.overlay, func(overlay.NodeID) { dropped++ }, here.log)
	defer asking.close()
	ctx := testContext(t)
	out, err := asking.Renegotiate(ctx, there.ID(), "known", []byte("offer"))
	if err != nil || string(out) != "answer" {
		t.Fatalf("%q %v", out, err)
	}
	if want := here.ID().String() + " known offer"; len(asked) != 1 || asked[0] != want {
		t.Errorf("asked %q, want %q", asked, want)
	}
	if _, err = asking.Renegotiate(ctx, there.ID(), "unknown", []byte("offer")); !errors.Is(err, errMediaRefused) || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}

	// As many as one node may have answered at a time, and one more. A far side that takes its time is not a dead one.
	var wg sync.WaitGroup
	for range maxMediaPerPeer {
		wg.Go(func() {
			if out, err := asking.Renegotiate(ctx, there.ID(), "slow", []byte("offer")); err != nil || string(out) != "late" {
				t.Errorf("%q %v", out, err)
			}
		})
	}
	for range maxMediaPerPeer {
		<-busy
	}
	if _, err := asking.Renegotiate(ctx, there.ID(), "known", []byte("offer")); err == nil {
		t.Error("one more was answered")
	}
	time.Sleep(mediaGreeting + 100*time.Millisecond) // nothing is waited for: this is the time after which a dead one is given up
	close(hold)
	wg.Wait()
	if out, err := asking.Renegotiate(ctx, there.ID(), "known", []byte("offer")); err != nil || string(out) != "answer" {
		t.Errorf("afterwards: %q %v", out, err)
	}
	if dropped != 0 {
		t.Errorf("%d connections were given up", dropped)
	}
	there.Close()
	if _, err := asking.Renegotiate(ctx, there.ID(), "known", []byte("offer")); err == nil || dropped != 1 {
		t.Errorf("after its end: %v, %d given up", err, dropped)
	}
}

// bridge carries connections to an address until it is frozen: then they stay open, and nothing comes out of them.
type bridge struct {
	net.Listener
	frozen atomic.Bool
	wg     sync.WaitGroup
}

func newBridge(t *testing.T, to string) *bridge {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &bridge{Listener: ln}
	var mu sync.Mutex
	var open []net.Conn
	carry := func(from, to net.Conn) {
		buf := make([]byte, 1<<16)
		for {
			n, err := from.Read(buf)
			if err != nil {
				to.Close()
				return
			}
			if !b.frozen.Load() {
				_, _ = to.Write(buf[:n])
			}
		}
	}
	b.wg.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil || b.frozen.Load() {
				in.Close()
				if err == nil {
					out.Close()
				}
				continue
			}
			mu.Lock()
			open = append(open, in, out)
			mu.Unlock()
			b.wg.Go(func() { carry(in, out) })
			b.wg.Go(func() { carry(out, in) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		b.wg.Wait()
	})
	return b
}

// TestRenegotiateOverADeadConnection has the connection between two nodes lead nowhere without a word, as after one of them has
// changed networks. The question reaches the other node over a new one, soon enough to bring sound back within 3 s.
func TestRenegotiateOverADeadConnection(t *testing.T) {
	u := newUniverse(t)
	with := func(user string) Config {
		c := u.config(u.home(user))
		c.Media = &MediaConfig{PortMin: 21700, PortMax: 21799}
		return c
	}
	there := u.start(with("bob"))
	addr, id, _ := strings.Cut(there.Addrs()[0], "/p2p/")
	b := newBridge(t, "127.0.0.1:"+addr[strings.LastIndex(addr, "/")+1:])
	c := with("alice")
	_, port, _ := net.SplitHostPort(b.Addr().String())
	c.Bootstrap = []string{"/ip4/127.0.0.1/tcp/" + port + "/p2p/" + id}
	here := u.start(c)
	ctx := testContext(t)
	if _, err := here.mediaStreams.Renegotiate(ctx, there.ID(), "unknown", []byte("offer")); !errors.Is(err, errMediaRefused) {
		t.Fatalf("while all is well: %v", err)
	}
	b.frozen.Store(true)
	began := time.Now()
	_, err := here.mediaStreams.Renegotiate(ctx, there.ID(), "unknown", []byte("offer"))
	if took := time.Since(began); !errors.Is(err, errMediaRefused) || took < mediaGreeting || took > 2500*time.Millisecond {
		t.Errorf("over a dead connection: %v after %v", err, took)
	}
	began = time.Now()
	if _, err = here.mediaStreams.Renegotiate(ctx, there.ID(), "unknown", []byte("offer")); !errors.Is(err, errMediaRefused) || time.Since(began) > mediaGreeting {
		t.Errorf("over the new one: %v after %v", err, time.Since(began))
	}
}
