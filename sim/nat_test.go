package sim_test

import "testing"

// TestRunNAT: users whose nodes are behind NATs are found; whether their node can be reached depends on who connected to
// whom before. Keeping such nodes from serving the DHT takes the dials away that cannot succeed.
func TestRunNAT(t *testing.T) {
	open := run(t, small(t, "idle 0\nconnect yes"))
	known(t, "connect.success without NATs", open.Connect.Success, 0.99, 1)
	hidden := run(t, small(t, "idle 0\nconnect yes\nnat port-filtering 50%\nnat port-mapping 30%"))
	known(t, "lookup.success", hidden.Lookup.Success, 0.97, 1)
	known(t, "connect.success", hidden.Connect.Success, 0.2, 0.9)
	clients := run(t, small(t, "idle 0\nnat port-filtering 50%\nnat port-mapping 30%\nnat-clients yes"))
	known(t, "lookup.success", clients.Lookup.Success, 0.98, 1)
	served := 0
	for _, n := range clients.PerNode.Requests {
		if n > 0 {
			served++
		}
	}
	if served == 0 || served > 25 {
		t.Errorf("%d of 60 nodes serve requests; those behind NATs should not", served)
	}
	if err := hidden.Validate(); err != nil {
		t.Error(err)
	}
}
