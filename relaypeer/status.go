package relaypeer

import "p2psip/relaypeer/datapath"

// Status is how the role stands. Counters count since the start.
type Status struct {
	Services    []ServiceStatus
	Advertised  int    // nodes that have confirmed the advertisement; 0 while there is none
	Trouble     string // why it is not advertised although an address is good
	Draining    bool
	Allocations int
	InUse       int // of those, with data in the last seconds
	Capacity    int
	Members     int   // with allocations
	Conns       int   // of TCP and TLS clients
	Month       int64 // octets of data relayed this month
	MonthLimit  int64 // negative: none
	Speed       int64 // octets of data a second, lately

	Grants     uint64 // credentials given
	Challenged uint64 // requests without a credential, or with an old nonce
	Refused    uint64 // of those, with a credential that is not good
	Limited    uint64 // not answered, because their source or member asks too much
	Refusals   uint64 // requests of members that were refused
	Forbidden  uint64 // requests and packets for addresses that nothing is sent to
	Malformed  uint64 // packets that are no TURN
	Stray      uint64 // packets that belong to no allocation, or that nobody asked for
	OverBudget uint64 // packets of members that were over a budget
	Panics     uint64
	Data       datapath.Stats
}

// ServiceStatus is how the address of one socket stands.
type ServiceStatus struct {
	URI       string
	Local     string // where the socket is bound, if that is another address
	Good      string // why it is advertised; "" if it is not
	Trouble   string // what went wrong the last time it was verified
	Doubt     string // why it may not be reached although it is advertised
	Confirmed int    // members that have reached it
}

// Status gives a snapshot.
func (s *Server) Status() Status {
	out := Status{
		Allocations: s.Allocations(), InUse: s.InUse(), Capacity: s.limits.Allocations, Draining: s.draining(),
		Month: s.members.bytes.Load(), MonthLimit: s.limits.Month, Speed: s.speed.Load(),
		Grants: s.stats.grants.Load(), Challenged: s.stats.challenged.Load(), Refused: s.stats.refused.Load(), Limited: s.stats.limited.Load(),
		Refusals: s.stats.refusals.Load(), Forbidden: s.stats.forbidden.Load(), Malformed: s.stats.malformed.Load(),
		Stray: s.stats.stray.Load(), Panics: s.stats.panics.Load(), Data: s.cfg.Loop.Stats(),
	}
	out.Members, out.OverBudget = s.members.using()
	s.mu.Lock()
	r := s.role
	out.Conns = s.connsAll
	s.mu.Unlock()
	if r == nil {
		for _, n := range s.names {
			out.Services = append(out.Services, n.status())
		}
		return out
	}
	for _, v := range r.reachable() {
		st := v.status()
		st.Good, st.Trouble, st.Doubt, st.Confirmed = v.good, v.trouble, v.doubt, len(v.confirmed)
		out.Services = append(out.Services, st)
	}
	r.mu.Lock()
	o, err := r.offering, r.offerErr
	r.mu.Unlock()
	if err != nil {
		out.Trouble = err.Error()
	}
	if o != nil {
		_, out.Advertised, _ = o.Advertised()
	}
	return out
}

func (v Service) status() ServiceStatus {
	s := ServiceStatus{URI: v.uri()}
	if v.Local != v.Public {
		s.Local = v.Local.String()
	}
	return s
}

// Usage is what a member has used.
type Usage struct {
	Member      string
	Allocations int
	Month       int64 // octets of data this month
}

// Usage lists the members with allocations or data this month.
func (s *Server) Usage() (out []Usage) {
	s.members.mu.Lock()
	defer s.members.mu.Unlock()
	for name, e := range s.members.table {
		if n := e.bytes.Load(); n > 0 || e.allocations > 0 {
			out = append(out, Usage{name, e.allocations, n})
		}
	}
	return out
}
