package overlay_test

import (
	"context"
	"testing"
	"time"

	"p2psip/overlay"
	"p2psip/overlay/overlaytest"
)

// TestCost: an operation counts its own messages, and nothing of what goes on beside it.
func TestCost(t *testing.T) {
	u := overlaytest.New(t, 8, nil)
	a, b := u.AOR(t, "user3"), u.AOR(t, "nobody")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := u.Peers[3].Registrations().Set(ctx, a, []overlay.Device{{ID: "phone", Q: 1000}}); err != nil {
		t.Fatal(err)
	}
	other := make(chan overlay.LookupStats)
	go func() {
		_, st, _ := lookup(t, u.Peers[5], b)
		other <- st
	}()
	_, found, err := lookup(t, u.Peers[5], a)
	if err != nil {
		t.Fatal(err)
	}
	unknown := <-other
	for name, st := range map[string]overlay.LookupStats{"found": found, "unknown": unknown} {
		c := st.Cost
		if c.Messages < st.Answered || c.Messages > 2*st.Asked || c.Messages == 0 || c.Bytes < 40*c.Messages || c.Dials > st.Asked {
			t.Errorf("%s: %+v", name, st)
		}
	}
	if unknown.Cost.Messages != unknown.Asked+unknown.Answered {
		t.Errorf("all were asked and answered: %+v", unknown)
	}
	st := u.Peers[3].Registrations().Status()[0]
	// The search asks and is answered by each, then the record goes to the quorum and comes back as the confirmation.
	if c := st.Cost(); c.Messages < 2*st.Asked+2*(st.Stored-1) || c.Bytes < 800*(st.Stored-1) {
		t.Errorf("%+v cost %+v", st, c)
	}
}
