package proxy

import (
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/transaction"
)

// Event is one message seen by Config.Trace.
type Event struct {
	Time    time.Time
	Out     bool      // true: sent, false: received
	Flow    flow.Flow // with whom
	Message sip.Message
}

type counters struct {
	forwarded, refused, loops, strays, lookups, lookupsRefused, branchesDropped, silent, panics atomic.Uint64
}

// Stats are counters since the start and what is going on now.
type Stats struct {
	Transactions    transaction.Stats
	Calls           int    // calls in progress
	Carried         int    // of those, with a sign of life not long ago: what counts as load
	Forwarded       uint64 // requests sent on, one for each branch
	Refused         uint64 // requests refused by the rules of routing
	Loops           uint64 // 482 and 483
	Strays          uint64 // responses that nobody here had asked for
	Lookups         uint64 // started
	LookupsRefused  uint64 // not started, too many were under way
	BranchesDropped uint64 // targets beyond the bound of one request
	Silent          uint64 // nodes whose connection was given up because they did not answer
	Panics          uint64 // faults survived
}

// Stats gives a snapshot.
func (c *Core) Stats() Stats {
	calls, carried := c.calls.count()
	return Stats{
		Transactions: c.layer.Stats(), Calls: calls, Carried: carried,
		Forwarded: c.stats.forwarded.Load(), Refused: c.stats.refused.Load(), Loops: c.stats.loops.Load(),
		Strays: c.stats.strays.Load(), Lookups: c.stats.lookups.Load(), LookupsRefused: c.stats.lookupsRefused.Load(),
		BranchesDropped: c.stats.branchesDropped.Load(), Silent: c.stats.silent.Load(), Panics: c.stats.panics.Load(),
	}
}

// Calls lists the calls in progress, the longest unheard of first.
func (c *Core) Calls() []Call { return c.calls.list() }
