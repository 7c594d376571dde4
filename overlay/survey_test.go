package overlay_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"p2psip/overlay"
)

// A survey finds everybody who offers a role, also more than Find gives, whoever asks; and tells who has given it up.
func TestSurveyRole(t *testing.T) {
	u := universe(t, 22, 20)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	asker := u.Peers[21]
	if s, err := asker.SurveyRole(ctx, overlay.RoleProxy, 0); !errors.Is(err, overlay.ErrNoRole) {
		t.Fatalf("with nobody: %+v, %v", s, err)
	}
	var want []overlay.NodeID
	var offers []*overlay.Offering
	for _, p := range u.Peers[:20] {
		offers = append(offers, offer(t, p, overlay.RoleProxy, overlay.Offer{Services: []string{"sip:192.0.2.1:5060;transport=udp"}}))
		want = append(want, p.ID())
	}
	slices.Sort(want)
	var found string
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("found last: %s", found)
		}
	})
	for _, p := range []*overlay.Peer{asker, u.Peers[0]} {
		eventually(t, "everybody is found", func() bool {
			s, err := p.SurveyRole(ctx, overlay.RoleProxy, 0)
			found = fmt.Sprintf("%d of %d, complete: %v, %v", len(s.Offered), len(want), s.Complete, err)
			return err == nil && slices.Equal(nodes(s.Offered), want)
		})
	}
	if err := offers[3].Close(); err != nil {
		t.Fatal(err)
	}
	s, err := asker.SurveyRole(ctx, overlay.RoleProxy, 1)
	if err != nil || slices.Contains(nodes(s.Offered), u.Peers[3].ID()) || !slices.Contains(nodes(s.Withdrawn), u.Peers[3].ID()) {
		t.Errorf("after a withdrawal: offered %v, withdrawn %v, %v", len(s.Offered), nodes(s.Withdrawn), err)
	}
	if _, err := asker.SurveyRole(ctx, "teredo", 0); !errors.Is(err, overlay.ErrNoRole) {
		t.Errorf("teredo: %v", err)
	}
}
