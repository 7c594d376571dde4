package sim

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"p2psip/sim/result"
)

// tooLate is when a failure is bad news twice over: a caller who hears nothing for so long has hung up.
const tooLate = 4 * time.Second

// good says whether a call went as its two people intended, and nothing of it was left.
func (c *call) good() bool {
	rang := !c.rang.IsZero()
	switch c.i.plan {
	case busy:
		return c.last.Status == 486 && !c.remains
	case unanswered, cancelled:
		return rang && c.last.Status == 487 && !c.remains
	}
	return rang && !c.answered.IsZero() && !c.unheard && c.unsaid == nil && !c.remains
}

// refused says that the caller heard of a failure that nobody intended, and when.
func (c *call) refused() (after time.Duration, ok bool) {
	if !c.rang.IsZero() || !c.answered.IsZero() || c.i.plan == busy && c.last.Status == 486 {
		return 0, false
	}
	return c.over.Sub(c.begun), true
}

// What had become of the callee when the caller heard of a failure.
const (
	calleeThere = "there"
	calleeAway  = "away"
	calleeLeft  = "left"
)

func (c *call) whereabouts() string {
	switch {
	case c.left:
		return calleeLeft
	case !c.atHome:
		return calleeAway
	}
	return calleeThere
}

// summary makes the figures. The run is over.
func (k *calls) summary(width time.Duration) *result.Calls {
	k.mu.Lock()
	defer k.mu.Unlock()
	slices.SortFunc(k.done, func(a, b *call) int { return cmp.Compare(a.number, b.number) })
	var tries, rings []result.Sample
	flows := map[string]*[2][]result.Sample{} // tried, rang
	parts := map[string][]time.Duration{}
	type heard struct {
		callee string
		status int
	}
	failures := map[heard][]time.Duration{}
	out := &result.Calls{Unended: len(k.byID)}
	stale, sent, slow := 0, 0, 0
	for _, c := range k.done {
		at := c.begun.Sub(k.r.measured)
		if after, ok := c.refused(); ok {
			h := heard{c.whereabouts(), c.last.Status}
			failures[h] = append(failures[h], after)
			if after > tooLate {
				slow++
			}
		}
		if c.branches > 0 {
			sent++
		}
		if c.dead > 0 {
			stale++
		}
		out.Branches += c.branches
		out.BranchesDead += c.dead
		if c.remains {
			out.Remains++
		}
		switch c.whereabouts() {
		case calleeAway:
			out.Away++
			continue
		case calleeLeft:
			out.Left++
			continue
		}
		s := result.Sample{At: at, OK: c.good()}
		f := flows[c.flow]
		if f == nil {
			f = &[2][]result.Sample{}
			flows[c.flow] = f
		}
		if !c.rang.IsZero() {
			took := c.rang.Sub(c.begun) // phones ring at once, so no thinking is in it
			s.Took = took
			ring := result.Sample{At: at, Took: took, OK: true}
			rings = append(rings, ring)
			f[1] = append(f[1], ring)
			k.split(c, took, parts)
		}
		tries, f[0] = append(tries, s), append(f[0], s)
	}
	if sum := result.SummarizeCalls(tries, width); sum != nil {
		sum.Rang(rings, width)
		sum.Branches, sum.BranchesDead, sum.Remains, sum.Away, sum.Left, sum.Unended =
			out.Branches, out.BranchesDead, out.Remains, out.Away, out.Left, out.Unended
		out = sum
	}
	out.Stale = result.Share(stale, sent)
	out.SlowFailures = slow
	for _, name := range []string{"lookup", "connect", "signalling"} {
		if len(parts[name]) > 0 {
			out.Parts = append(out.Parts, result.SummarizePart(name, parts[name]))
		}
	}
	for _, name := range []string{flowOverlay, flowOut, flowIn, flowHome} {
		f := flows[name]
		if f == nil {
			continue
		}
		sum := result.SummarizeCalls(f[0], 0)
		sum.Rang(f[1], 0)
		out.Flows = append(out.Flows, result.Flow{Name: flowNames[name], Count: sum.Count, OK: sum.OK, Success: sum.Success,
			P50MS: sum.SetupP50MS, P95MS: sum.SetupP95MS})
	}
	for h, took := range failures {
		out.Failures = append(out.Failures, result.NewFailure(h.callee, h.status, took))
	}
	slices.SortFunc(out.Failures, func(a, b result.Failure) int {
		return cmp.Or(cmp.Compare(a.Callee, b.Callee), cmp.Compare(a.Status, b.Status))
	})
	out.Register = result.Summarize(k.register, width)
	return out
}

// split divides the set-up of a call between two nodes.
func (k *calls) split(c *call, took time.Duration, parts map[string][]time.Duration) {
	if c.search.IsZero() || c.found.IsZero() || c.connect.IsZero() || c.connected.IsZero() {
		return
	}
	lookup, connect := c.found.Sub(c.search), c.connected.Sub(c.connect)
	parts["lookup"] = append(parts["lookup"], lookup)
	parts["connect"] = append(parts["connect"], connect)
	parts["signalling"] = append(parts["signalling"], took-lookup-connect)
}

// notes says what a reader of the figures has to know.
func (k *calls) notes(c *result.Calls) []string {
	out := []string{
		"calls carry no sound: there is no part ICE, and connections for media are neither made nor measured",
		"set-up is from the INVITE to the 180 at the caller's phone; phones ring at once, so that nobody's thinking is in it",
	}
	if k.r.border != nil {
		out = append(out, fmt.Sprintf("the public side is a simulated provider over UDP, which tries the next proxy peer after %v of silence; the DNS goes on naming proxy peers that are dead", patience))
	}
	if c.Unended > 0 {
		out = append(out, fmt.Sprintf("%d calls were not over at the end and are not counted", c.Unended))
	}
	return out
}
