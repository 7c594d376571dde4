package sim

import (
	"context"

	"p2psip/sim/network"
	"p2psip/sim/result"
)

// RunProbed is Run on a number of processors, with somebody watching the network.
func RunProbed(ctx context.Context, s Scenario, procs int, watch func(network.Event)) (*result.Run, error) {
	return probe{procs, watch}.run(ctx, s, nil)
}
