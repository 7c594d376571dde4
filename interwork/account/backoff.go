package account

import "time"

// Times of RFC 5626 §4.5 and §4.6: the wait after n failures in a row is drawn evenly from the upper half of
// min(longest, base * 2^n).
const (
	backoffBase = 30 * time.Second
	backoffMax  = 30 * time.Minute
	// refusedPause is how long an account rests that was refused for good: providers lock out who keeps trying.
	refusedPause = time.Hour
)

// backoff gives the wait after so many failures in a row, the first being 1; chance is from 0 to 1.
func backoff(failures int, chance float64) time.Duration {
	w := min(backoffBase<<min(max(failures, 1), 16), backoffMax)
	return spread(w, chance)
}

// spread draws from the upper half of w.
func spread(w time.Duration, chance float64) time.Duration {
	return w/2 + time.Duration(chance*float64(w/2))
}

// refreshAfter says when to refresh what was granted for a time: well before its end, so that there is room for attempts
// after a failed one, and spread, so that nodes that began together do not stay together.
func refreshAfter(granted time.Duration, chance float64) time.Duration {
	before := max(granted/4, min(granted/2, 30*time.Second))
	before = min(before, 10*time.Minute)
	return granted - before - time.Duration(chance*float64(before)/2)
}
