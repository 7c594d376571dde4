package sim

import (
	"math"
	"math/rand/v2"
	"time"
)

// plan is what the two people of a call are going to do.
type plan int

const (
	answered   plan = iota // the callee answers, they talk, one of them hangs up
	busy                   // the callee's phone says so at once
	unanswered             // nobody answers; the caller gives up in the end
	cancelled              // the caller changes his mind while it rings
)

// Shares of the plans. Telephone statistics put the answered share between 60 and 80 %.
const (
	shareBusy       = 0.08
	shareUnanswered = 0.12
	shareCancelled  = 0.06
)

// Habits of people.
const (
	thinkMin   = time.Second      // ringing until somebody answers, and more on average
	thinkMean  = 6 * time.Second  //
	thinkMax   = 25 * time.Second //
	changeMin  = time.Second      // ringing until a caller changes his mind
	changeMean = 3 * time.Second  //
	giveUpMin  = 25 * time.Second // ringing until a caller gives up
	giveUpMean = 5 * time.Second  //
	talkMin    = 2 * time.Second
	// silence is how long somebody listens to nothing, after the far side should have hung up, before he hangs up himself.
	silence = 10 * time.Second
)

// intention is a plan with its times.
type intention struct {
	plan         plan
	ring         time.Duration // of an answered call until the answer, of others until the caller gives up
	talk         time.Duration
	callerLeaves bool // hangs up
}

// intend draws an intention. The number of draws is always the same.
func intend(d *rand.Rand, talk time.Duration) intention {
	kind, first, second, who := d.Float64(), d.ExpFloat64(), d.ExpFloat64(), d.Float64()
	mean := func(least, mean, most time.Duration) time.Duration {
		return min(least+time.Duration(first*float64(mean)), most)
	}
	i := intention{plan: answered, talk: max(talkMin, time.Duration(second*float64(talk))), callerLeaves: who < 0.5}
	switch {
	case kind < shareBusy:
		i.plan = busy
	case kind < shareBusy+shareUnanswered:
		i.plan, i.ring = unanswered, mean(giveUpMin, giveUpMean, math.MaxInt64)
	case kind < shareBusy+shareUnanswered+shareCancelled:
		i.plan, i.ring = cancelled, mean(changeMin, changeMean, thinkMax)
	default:
		i.ring = mean(thinkMin, thinkMean, thinkMax)
	}
	return i
}
