package overlay

// What a walk makes of those who name nodes that are not there.
//
// It costs nothing to make up identifiers next to any key, and a node that answers every question with twenty of them
// would have each walk wait for twenty dials that nobody answers. So a walk remembers who named whom. One who has not yet
// named anybody that answers has two of those it named asked at a time, so that the others are asked beside; and one most
// of whose nodes did not answer is not believed any more in this walk: whom nobody else names is not asked, and not waited
// for. Honest nodes name dead ones too, but not most of the time, and whom one names others name as well.
//
// A liar who names accomplices that do answer is not withstood by this.
const (
	maxReferrers  = 4 // remembered for each candidate
	unprovenSlots = 2 // asked at a time of those that one names who has not proved right yet
	doubtAfter    = 2 // nodes that did not answer
)

// credit is what came of the nodes that one node has named.
type credit struct {
	good, bad, asking int
}

// lost says that most of the nodes it named did not answer.
func (c *credit) lost() bool { return c.bad >= doubtAfter && c.bad > 2*c.good }

// full says that no more of those it named should be asked for the moment.
func (c *credit) full() bool { return c.good == 0 && c.asking >= unprovenSlots }

// named notes that somebody has named the candidate. The one whose table it came from is this node itself, whom it trusts.
func (c *candidate) named(by *candidate) {
	if by != nil && len(c.by) < maxReferrers {
		c.by = append(c.by, by)
	}
}

// become changes the state of a candidate and books it with those who named it.
func (c *candidate) become(s candState) {
	for _, b := range c.by {
		b.credit.book(c.state, -1)
		b.credit.book(s, +1)
	}
	c.state = s
}

func (c *credit) book(s candState, n int) {
	switch s {
	case asking:
		c.asking += n
	case slow, failed:
		c.bad += n
	case answered:
		c.good += n
	}
}

// credible says whether anybody who is believed has named the candidate.
func (c *candidate) credible() bool {
	for _, b := range c.by {
		if !b.credit.lost() {
			return true
		}
	}
	return len(c.by) == 0
}

// turn says whether the candidate may be asked now.
func (c *candidate) turn() bool {
	for _, b := range c.by {
		if !b.credit.lost() && !b.credit.full() {
			return true
		}
	}
	return len(c.by) == 0
}
