package node

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
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
