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
	clients := run(t, small(t, "idle 0\nconnect yes\nnat port-filtering 50%\nnat port-mapping 30%\nnat-clients yes"))
	known(t, "lookup.success", clients.Lookup.Success, 0.98, 1)
	if a, b := hidden.Publish.P95MS.Or(0), clients.Publish.P95MS.Or(0); b > 0.7*a {
		t.Errorf("registering takes 95 %% up to %g ms when nodes behind NATs serve and %g ms when they do not: they are still named to others", a, b)
	}
	if a, b := hidden.Unknown.P95MS.Or(0), clients.Unknown.P95MS.Or(0); b > 0.7*a {
		t.Errorf("an unknown user is told of after %g ms, and %g ms", a, b)
	}
	if err := hidden.Validate(); err != nil {
		t.Error(err)
	}
}
