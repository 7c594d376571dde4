package overlay_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"p2psip/overlay"
)

func TestVouch(t *testing.T) {
	u := universe(t, 5, 3)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	text := []byte("alice calls")
	words := make([][]byte, len(u.Peers))
	for i, p := range u.Peers {
		p.HandleStreams(func(s *overlay.Stream) { s.Close() })
		w, err := p.Vouch(text)
		if err != nil || len(w) != overlay.WordSize {
			t.Fatalf("a word of %d bytes: %v", len(w), err)
		}
		words[i] = w
	}
	judge := u.Peers[1]
	for i, c := range []struct {
		word []byte
		ok   bool
	}{{words[0], true}, {words[1], true}, {words[3], false}, {words[4], false}} {
		if err := judge.Vouched(ctx, overlay.RoleProxy, text, c.word); (err == nil) != c.ok || err != nil && !errors.Is(err, overlay.ErrNotEntitled) {
			t.Errorf("%d: %v", i, err)
		}
	}
	stolen := append(slices.Clone(words[0][:32]), words[3][32:]...)
	for what, c := range map[string]struct{ text, word []byte }{
		"another text":      {[]byte("alice called"), words[0]},
		"another's name":    {text, stolen},
		"cut short":         {text, words[0][:overlay.WordSize-1]},
		"nothing":           {text, nil},
		"nobody's":          {text, make([]byte, overlay.WordSize)},
		"an advert's words": {bytes.Repeat([]byte{0}, 100), words[0]},
	} {
		if err := judge.Vouched(ctx, overlay.RoleProxy, c.text, c.word); err == nil {
			t.Errorf("%s is believed", what)
		}
	}
	// Who has advertised may be gone.
	gone := u.Peers[2]
	offer(t, gone, overlay.RoleProxy, overlay.Offer{Services: []string{"sip:192.0.2.1:5060;transport=udp"}})
	if _, err := judge.Find(ctx, overlay.RoleProxy, 3); err != nil {
		t.Fatal(err)
	}
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	if err := judge.Vouched(ctx, overlay.RoleProxy, text, words[2]); err != nil {
		t.Errorf("a proxy peer that has ended: %v", err)
	}
}
