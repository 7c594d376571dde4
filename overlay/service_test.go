package overlay_test

import (
	"context"
	"io"
	"slices"
	"testing"
	"time"

	"p2psip/overlay"
	"p2psip/overlay/overlaytest"
)

// TestServices: streams for one service do not end up at another, and say who is there and from where.
func TestServices(t *testing.T) {
	u := overlaytest.New(t, 2, nil)
	for _, service := range []overlay.Service{overlay.ServiceTURN, overlay.ServiceReach} {
		u.Peers[1].HandleService(service, func(s *overlay.Stream) {
			defer s.Close()
			if s.Member.Node != u.Peers[0].ID() || !s.Member.Entitled(u.AOR(t, "user0")) || !s.Remote().IsLoopback() {
				t.Errorf("a stream of %s from %s", s.Member.Node, s.Remote())
			}
			_, _ = io.WriteString(s, string(service))
			_ = s.CloseWrite()
			_, _ = io.Copy(io.Discard, s) // until the other side has read it
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ask := func(service overlay.Service) (string, error) {
		s, err := u.Peers[0].OpenService(ctx, service, u.Peers[1].ID(), nil)
		if err != nil {
			return "", err
		}
		defer s.Close()
		b, err := io.ReadAll(s)
		return string(b), err
	}
	for _, service := range []overlay.Service{overlay.ServiceTURN, overlay.ServiceReach} {
		if got, err := ask(service); got != string(service) || err != nil {
			t.Errorf("%s: %q %v", service, got, err)
		}
	}
	if got, err := ask(overlay.ServiceSIP); err == nil {
		t.Errorf("nobody takes SIP there: %q", got)
	}
	u.Peers[1].HandleService(overlay.ServiceTURN, nil)
	if got, err := ask(overlay.ServiceTURN); err == nil {
		t.Errorf("after its end: %q", got)
	}
	if list := u.Peers[0].Connected(); !slices.Contains(list, u.Peers[1].ID()) {
		t.Errorf("connected: %v", list)
	}
	if ports := u.Peers[0].ListenPorts(); len(ports) != 1 || ports[0] == 0 {
		t.Errorf("ports %v", ports)
	}
}
