package result

// Hostile is what hostile nodes did, and achieved.
type Hostile struct {
	Share   Value         `json:"share"`   // of all nodes, 0 to 1
	Kinds   []HostileKind `json:"kinds"`   // in the order of the scenario
	Lies    int           `json:"lies"`    // requests treated otherwise than an honest node does
	Lookups int           `json:"lookups"` // of known and unknown users by honest nodes
	Wrong   int           `json:"wrong"`   // of those, that handed out a record which no owner has signed; 0 or the defence has failed
	Refused int           `json:"refused"` // values that those lookups received and refused

	Finds      int `json:"finds"`       // searches for a role
	WrongFinds int `json:"wrong_finds"` // of those, that gave an advertisement which no node with the role has signed; 0 or the defence has failed
	Planted    int `json:"planted"`     // false advertisements, and true old ones, that hostile nodes asked honest ones to store
	Rooted     int `json:"rooted"`      // of those, that were stored: old ones of nodes that were not known there

	Victim *Operation     `json:"victim"` // lookups of the user, or by the node, whose neighbourhood was taken
	Sweep  []HostileShare `json:"sweep"`  // one for each share, when the scenario was run with several, smallest first
}

// HostileKind is one way of being hostile.
type HostileKind struct {
	Name  string `json:"name"`
	Nodes int    `json:"nodes"`
}

// HostileShare is what users felt with one share of hostile nodes.
type HostileShare struct {
	Share          Value `json:"share"`
	LookupSuccess  Value `json:"lookup_success"`
	LookupP50MS    Value `json:"lookup_p50_ms"`
	LookupP95MS    Value `json:"lookup_p95_ms"`
	LookupMessages Value `json:"lookup_messages"`
	PublishSuccess Value `json:"publish_success"`
	PublishP95MS   Value `json:"publish_p95_ms"`
	UnknownSuccess Value `json:"unknown_success"`
	UnknownP95MS   Value `json:"unknown_p95_ms"`
	Fresh          Value `json:"fresh"`
	VictimSuccess  Value `json:"victim_success"`
	VictimP95MS    Value `json:"victim_p95_ms"`
	Wrong          int   `json:"wrong"`
	Refused        int   `json:"refused"`
}

// HostilePoint gives the run as one point of a sweep over the share of hostile nodes.
func (r *Run) HostilePoint() HostileShare {
	p := HostileShare{Share: V(0), Fresh: r.Fresh}
	if o := r.Lookup; o != nil {
		p.LookupSuccess, p.LookupP50MS, p.LookupP95MS, p.LookupMessages = o.Success, o.P50MS, o.P95MS, o.MessagesMean
	}
	if o := r.Publish; o != nil {
		p.PublishSuccess, p.PublishP95MS = o.Success, o.P95MS
	}
	if o := r.Unknown; o != nil {
		p.UnknownSuccess, p.UnknownP95MS = o.Success, o.P95MS
	}
	if h := r.Hostile; h != nil {
		p.Share, p.Wrong, p.Refused = h.Share, h.Wrong, h.Refused
		if h.Victim != nil {
			p.VictimSuccess, p.VictimP95MS = h.Victim.Success, h.Victim.P95MS
		}
	}
	return p
}

func (c *checker) hostile(h *Hostile) {
	if h == nil {
		return
	}
	c.share("hostile.share", h.Share)
	c.length("hostile.kinds", len(h.Kinds), MaxList)
	for _, k := range h.Kinds {
		c.name("hostile.kinds", k.Name)
		c.count("hostile.kinds", k.Nodes)
	}
	c.count("hostile.lies", h.Lies)
	c.count("hostile.lookups", h.Lookups)
	c.that(h.Wrong >= 0 && h.Wrong <= h.Lookups, "hostile.wrong")
	c.count("hostile.refused", h.Refused)
	c.count("hostile.finds", h.Finds)
	c.that(h.WrongFinds >= 0 && h.WrongFinds <= h.Finds, "hostile.wrong_finds")
	c.count("hostile.planted", h.Planted)
	c.that(h.Rooted >= 0 && h.Rooted <= h.Planted, "hostile.rooted")
	c.operation("hostile.victim", h.Victim)
	c.length("hostile.sweep", len(h.Sweep), MaxList)
	for i, s := range h.Sweep {
		for _, v := range []Value{s.Share, s.LookupSuccess, s.PublishSuccess, s.UnknownSuccess, s.Fresh, s.VictimSuccess} {
			c.share("hostile.sweep", v)
		}
		c.values("hostile.sweep", s.LookupP50MS, s.LookupP95MS, s.LookupMessages, s.PublishP95MS, s.UnknownP95MS, s.VictimP95MS)
		c.count("hostile.sweep", s.Wrong)
		c.count("hostile.sweep", s.Refused)
		c.that(i == 0 || h.Sweep[i-1].Share.Or(0) <= s.Share.Or(0), "hostile.sweep: out of order")
	}
}

// poolHostile puts what hostile nodes did in several networks together: counts are added, the sweep is the first one's.
func poolHostile(runs []*Run) *Hostile {
	var out *Hostile
	var victims []*Operation
	for _, r := range runs {
		h := r.Hostile
		switch {
		case h == nil:
			continue
		case out == nil:
			c := *h
			out = &c
		default:
			out.Lies += h.Lies
			out.Lookups += h.Lookups
			out.Wrong += h.Wrong
			out.Refused += h.Refused
			out.Finds += h.Finds
			out.WrongFinds += h.WrongFinds
			out.Planted += h.Planted
			out.Rooted += h.Rooted
		}
		if h.Victim != nil {
			victims = append(victims, h.Victim)
		}
	}
	if out != nil {
		out.Victim = pooled(victims)
	}
	return out
}
