package sim

import (
	"time"

	"p2psip/overlay"
	"p2psip/sim/result"
)

// measured is an operation that was measured. Its cost may grow for a moment when it is over: a publication is done when a
// quorum has confirmed, and goes on with the others.
type measured struct {
	result.Sample
	cost func() overlay.Cost // nil: not known
}

// costOf gives what an operation has cost in messages and bytes on the wire: those of the DHT with the packets around them,
// and for each connection that had to be made the handshake on both sides. Not in it: answers that came too late to be taken
// in, and keep-alives.
func (r *run) costOf(c overlay.Cost) (messages, bytes int) {
	packet, handshake := r.net.Overhead()
	return c.Messages, c.Bytes + c.Messages*packet + 2*c.Dials*handshake
}

// samples gives the samples with their costs.
func (r *run) samples(list []*measured) []result.Sample {
	out := make([]result.Sample, len(list))
	for i, m := range list {
		out[i] = m.Sample
		if m.cost != nil {
			out[i].Messages, out[i].Bytes = r.costOf(m.cost())
		}
	}
	return out
}

// sinceMeasured gives the time since the last stretch began; negative before.
func (r *run) sinceMeasured() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.measured.IsZero() {
		return -1
	}
	return time.Since(r.measured)
}
