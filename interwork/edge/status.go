package edge

import (
	"slices"
	"strings"
	"time"

	"p2psip/overlay"
)

// Status is what `p2psip status` shows of the phones beside the node. It goes over a socket as JSON.
type Status struct {
	Users    []UserStatus `json:"users"`   // with a phone, or with something left to publish; sorted
	Waiting  int          `json:"waiting"` // REGISTERs that wait for the disk or the overlay
	Problems []string     `json:"problems,omitempty"`
}

// UserStatus is one user with phones at this node.
type UserStatus struct {
	AOR       string `json:"aor"`
	Published bool   `json:"published"` // the overlay has confirmed the phones as they are now
	// Why says what is wrong while Published is false: "registered here, not published: ...".
	Why    string        `json:"why,omitempty"`
	Since  time.Time     `json:"since,omitzero"` // of the first failure in a row
	Next   time.Time     `json:"next,omitzero"`  // when it is tried again
	Phones []PhoneStatus `json:"phones"`
}

// PhoneStatus is one registered phone.
type PhoneStatus struct {
	ID        string        `json:"id"` // the gr value of its GRUU
	RegID     int           `json:"reg_id,omitempty"`
	Contact   string        `json:"contact"`
	Transport string        `json:"transport"`
	Source    string        `json:"source"` // where its REGISTER came from
	Reach     string        `json:"reach"`  // where requests are sent to
	Connected bool          `json:"connected"`
	Q         float64       `json:"q"`
	ExpiresIn time.Duration `json:"expires_in_ns"`
	UserAgent string        `json:"user_agent,omitempty"`
	Published bool          `json:"published"`
}

// Status gives a picture of the phones at this moment.
func (e *Edge) Status() Status {
	now := e.c.Now()
	var s Status
	if err := e.c.Users.Err(); err != nil {
		s.Problems = append(s.Problems, err.Error()+" (the users known before stay valid)")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.saveErr != nil {
		s.Problems = append(s.Problems, "registrations cannot be stored: "+e.saveErr.Error())
	}
	s.Waiting = len(e.waiting)
	s.Users = make([]UserStatus, 0, len(e.users))
	for _, u := range e.users {
		us := UserStatus{AOR: u.aor.String(), Published: u.published == u.desired, Since: u.since, Next: u.next}
		switch {
		case us.Published:
		case u.err != nil && len(u.phones) == 0:
			us.Why = "no phone here any more, and the overlay is not told yet: " + u.err.Error()
		case u.err != nil:
			us.Why = "registered here, not published: " + u.err.Error()
		default:
			us.Why = "registered here, being published"
		}
		for _, p := range u.phones {
			ps := PhoneStatus{
				ID: p.id, RegID: p.regID, Contact: p.uri.String(), Transport: string(p.source.Transport), Source: p.source.Remote.String(),
				Reach: string(p.reach.Transport) + " " + p.reach.Remote.String(), Connected: e.target(p).Flow != nil,
				Q: float64(p.q) / 1000, ExpiresIn: p.until.Sub(now), UserAgent: p.agent, Published: u.current(p),
			}
			if p.reach.Remote.Port == 0 {
				ps.Reach = string(p.source.Transport) + " connection it registered over"
			}
			us.Phones = append(us.Phones, ps)
		}
		s.Users = append(s.Users, us)
	}
	slices.SortFunc(s.Users, func(a, b UserStatus) int { return strings.Compare(a.AOR, b.AOR) })
	return s
}

// Published says that a user has a phone here that the overlay knows of.
func (e *Edge) Published(aor overlay.AOR) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	u := e.users[aor]
	return u != nil && len(u.phones) > 0 && u.published > 0 && len(u.devices) > 0
}
