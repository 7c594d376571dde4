package dnsreg

import "time"

// Two registrars of one zone. They need not know of each other: whoever has changed the zone last stands in its notes ("by"), and
// holds it. The other, which keeps the same view of the overlay, wants the same records and has nothing to do; what it wants
// otherwise it only notes. If that stays undone for Takeover, and the holder has not changed anything either (its serial number has
// not moved), the holder is gone, and the other takes over by making the change. That both do so at once is impossible: each update
// requires the notes that were read before it (see Updater).
//
// So nothing has to be renewed: a zone in which nothing happens is not written to, and its secondaries have no work. Two registrars
// whose views differ for good, because they are configured differently or see different peers alive, would take over from each
// other for ever: whoever was superseded while it was at work waits twice as long the next time, up to maxPatience.
type lease struct {
	me       string
	takeover time.Duration

	patience time.Duration // takeover, or longer
	held     bool
	since    time.Time // held, or something is undone since then
	undone   bool
	serial   uint64 // when it was first undone
}

// maxPatience is the longest that a registrar waits before it takes over; calmAfter is how long it has to hold the zone until
// former quarrels are forgotten.
const (
	maxPatience = time.Hour
	calmAfter   = 2 * time.Hour
)

// may says whether this registrar may make a change. differs says that there is one to make.
func (l *lease) may(n Notes, differs bool, now time.Time) bool {
	if l.patience == 0 {
		l.patience = l.takeover
	}
	if n.By == "" || n.By == l.me {
		if !l.held {
			l.held, l.since = true, now
		} else if now.Sub(l.since) > calmAfter {
			l.patience = l.takeover
		}
		l.undone = false
		return true
	}
	if l.held { // somebody else has taken over
		l.held, l.undone = false, false
		l.patience = min(2*l.patience, maxPatience)
	}
	switch {
	case !differs:
		l.undone = false
	case !l.undone || l.serial != n.Serial:
		l.undone, l.serial, l.since = true, n.Serial, now
	default:
		return now.Sub(l.since) >= l.patience // it holds the zone when it has made the change
	}
	return false
}
