package sim

import (
	"testing"
)

// kad-dht's own calls wait for the dead; with a fifth of the nodes silent the difference to ours is one of seconds.
func TestStock(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	s := DefaultScenario()
	for name, v := range map[string]string{
		"nodes": "40", "users": "20", "idle": "0", "settle": "1m", "duration": "3m", "kill": "20%@90s", "lookups": "1/s", "stock": "yes",
	} {
		if err := s.Set(name, v); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Run(t.Context(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Stock == nil || r.Stock.Lookup == nil || r.Stock.Publish == nil || r.Stock.Unknown == nil {
		t.Fatalf("kad-dht's own figures are missing: %+v", r.Stock)
	}
	if r.Stock.Lookup.OK == 0 || r.Stock.Publish.OK == 0 {
		t.Errorf("kad-dht's own calls found %d and stored %d", r.Stock.Lookup.OK, r.Stock.Publish.OK)
	}
	ours, theirs := r.Lookup.P95MS.Or(0), r.Stock.Lookup.P95MS.Or(0)
	if theirs < 4*ours {
		t.Errorf("95 %% of the lookups within %.0f ms, kad-dht's own within %.0f ms", ours, theirs)
	}
}

func TestStockWantsASteadyNetwork(t *testing.T) {
	s := DefaultScenario()
	s.Stock = true
	s.Session = s.Duration
	if s.Validate() == nil {
		t.Error("kad-dht's own calls beside a network with churn were accepted")
	}
}
