package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"p2psip/interwork/account"
	"p2psip/interwork/edge"
	"p2psip/interwork/flow"
	"p2psip/overlay"
)

// soon is when an end that comes nearer is worth a word.
const soon = 30 * 24 * time.Hour

// Status is how a node stands. It travels over the control socket as JSON.
type Status struct {
	Node     string    `json:"node"`
	Name     string    `json:"name"` // in SIP headers
	Overlay  Overlay   `json:"overlay"`
	Users    []string  `json:"users"` // of the credential
	Roles    []string  `json:"roles"`
	Expires  time.Time `json:"credential_expires"`
	Started  time.Time `json:"started"`
	Addrs    []string  `json:"addrs"`                     // for other nodes
	SIP      []SIPAddr `json:"sip"`                       // for phones
	Through  []string  `json:"reached_through,omitempty"` // behind a NAT: nodes through which others reach it
	Joined   bool      `json:"joined"`
	Trouble  string    `json:"trouble,omitempty"` // why not joined
	Links    int       `json:"connected"`         // nodes connected
	Table    int       `json:"neighbours"`        // nodes in the routing table
	Streams  int       `json:"sip_streams"`       // to other nodes
	Stored   int       `json:"records_stored"`    // for others
	Bytes    int       `json:"record_bytes"`
	Requests uint64    `json:"dht_requests"`
	Failures uint64    `json:"dht_failures"`

	Phones   edge.Status      `json:"phones"`
	Accounts []account.Status `json:"accounts"` // with providers outside
	Records  []Published      `json:"published"`
	Calls    []Call           `json:"calls"`
	Media    *Media           `json:"media,omitempty"` // nil: no sound passes through this node
	Counters Counters         `json:"counters"`
	Border   Border           `json:"border"`
	Relays   []RelayPeer      `json:"relay_peers,omitempty"` // that calls from here would use, and others that are known
	Relay    RelayStatus      `json:"relay"`
	Problems []Problem        `json:"problems"` // what is wrong; empty when all is well
}

// Overlay is the overlay a node belongs to.
type Overlay struct {
	ID          string    `json:"id"`
	Fingerprint string    `json:"fingerprint"`
	Policy      string    `json:"policy"`
	Serial      uint64    `json:"serial"`
	Expires     time.Time `json:"expires"`
}

// SIPAddr is an address for phones.
type SIPAddr struct {
	Transport string `json:"transport"`
	Addr      string `json:"addr"` // "127.0.0.1:5060"
}

// Published is how the record of one of the node's users stands in the overlay.
type Published struct {
	AOR       string    `json:"aor"`
	Devices   int       `json:"devices"`
	Sequence  uint64    `json:"sequence"`
	Published time.Time `json:"published,omitzero"`
	Next      time.Time `json:"next,omitzero"`
	Stored    int       `json:"stored"` // nodes that confirmed, this one included
	Wanted    int       `json:"wanted"`
	Error     string    `json:"error,omitempty"`
}

// Call is a call in progress.
type Call struct {
	ID    string    `json:"id"`
	From  string    `json:"from"`
	To    string    `json:"to"`
	Since time.Time `json:"since"`

	Media *CallMedia `json:"media,omitempty"` // nil: its sound does not pass through this node
}

// Counters count since the start.
type Counters struct {
	Requests  uint64 `json:"requests"`
	Responses uint64 `json:"responses"`
	Malformed uint64 `json:"malformed"`
	Forwarded uint64 `json:"forwarded"`
	Refused   uint64 `json:"refused"`
	Loops     uint64 `json:"loops"`
	Lookups   uint64 `json:"lookups"`
	Panics    uint64 `json:"panics"`
}

// Problem is one thing that is wrong, and what to do about it.
type Problem struct {
	What string `json:"what"`
	Hint string `json:"hint"`
}

// Status gives a picture of the node at this moment.
func (n *Node) Status() Status {
	now := n.cfg.Now()
	o, doc, cred := n.overlay.Status(), n.overlay.Document(), n.overlay.Credential()
	s := Status{
		Node: o.Node.String(), Name: o.Name, Expires: cred.Expires().UTC(), Started: n.started.UTC(),
		Overlay: Overlay{string(doc.ID), doc.Fingerprint(), string(doc.Policy), doc.Serial, doc.Expires.UTC()},
		Addrs:   o.Addrs, Joined: o.Joined, Trouble: o.Trouble, Links: o.Connected, Table: o.Routing, Streams: n.peers.count(),
		Stored: o.Records, Bytes: o.Bytes, Requests: o.Requests, Failures: o.Failures,
		Users: []string{}, Roles: []string{}, Records: []Published{}, Calls: []Call{}, Problems: []Problem{},
		Phones: n.edge.Status(), Accounts: []account.Status{},
	}
	behind := false
	s.Through, behind = n.overlay.Through()
	for _, u := range cred.Users() {
		s.Users = append(s.Users, u.String())
	}
	for _, r := range cred.Roles() {
		s.Roles = append(s.Roles, string(r))
	}
	for i, a := range n.own {
		for _, t := range transportsOf(i) {
			s.SIP = append(s.SIP, SIPAddr{string(t), a.String()})
		}
	}
	for _, p := range o.Publish {
		v := Published{
			AOR: p.AOR.String(), Devices: p.Devices, Sequence: p.Sequence, Published: p.Published.UTC(), Next: p.Next.UTC(),
			Stored: p.Stored, Wanted: p.Wanted,
		}
		if p.Err != nil {
			v.Error = p.Err.Error()
		}
		s.Records = append(s.Records, v)
	}
	slices.SortFunc(s.Records, func(a, b Published) int { return compare(a.AOR, b.AOR) })
	for _, c := range n.core.Calls() {
		s.Calls = append(s.Calls, Call{ID: c.CallID, From: c.From, To: c.To, Since: c.Since.UTC()})
	}
	n.mediaStatus(&s)
	s.Relays = n.relayStatus()
	st := n.core.Stats()
	s.Counters = Counters{
		Requests: st.Transactions.Requests, Responses: st.Transactions.Responses, Malformed: st.Transactions.Malformed,
		Forwarded: st.Forwarded, Refused: st.Refused, Loops: st.Loops, Lookups: st.Lookups,
		Panics: st.Panics + st.Transactions.Panics,
	}
	var accounts error
	if a := n.accounts.Load(); a != nil {
		s.Accounts, accounts = a.Status()
	}
	s.Border = n.borderStatus()
	s.Relay = n.relayRoleStatus()
	s.Problems = append(s.Problems, n.problems(&s, cred, doc, now)...)
	s.Problems = append(s.Problems, relayProblems(s.Relay)...)
	s.Problems = append(s.Problems, accountProblems(s.Accounts, accounts)...)
	if behind && s.Joined && len(s.Through) == 0 && now.Sub(n.started) > time.Minute {
		s.Problems = append(s.Problems, Problem{"this node is behind a NAT, and no node with a public address has it be reached through it: calls of others do not arrive",
			"it is tried again by itself; the overlay needs nodes with public addresses, such as its proxy and relay peers"})
	}
	if s.Border.Policy != "" {
		s.Problems = append(s.Problems, Problem{"the federation policy before stays in force: " + s.Border.Policy, "mend the file; it is taken up by itself, and p2psip federation reload tells at once"})
	}
	s.Problems = append(s.Problems, bindingProblems(s.Border.Binding)...)
	return s
}

// transportsOf gives the transports of the i-th socket, in the order of sockets.addrs.
func transportsOf(i int) []flow.Transport {
	return [][]flow.Transport{{flow.TransportUDP}, {flow.TransportTCP}, {flow.TransportTLS}}[i]
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// problems lists what is wrong, the worst first.
func (n *Node) problems(s *Status, cred *overlay.Credential, doc *overlay.Document, now time.Time) (out []Problem) {
	add := func(hint, format string, a ...any) { out = append(out, Problem{fmt.Sprintf(format, a...), hint}) }
	if !s.Joined {
		add("check the network; give the address of a running node with --bootstrap", "this node has not joined the overlay: %s", s.Trouble)
	}
	ends := []struct {
		what, hint string
		at         time.Time
	}{
		{"the node's credential", "ask whoever runs " + string(doc.ID) + " for a new one, then: p2psip node install FILE", cred.Expires()},
		{"the overlay document", "ask whoever runs " + string(doc.ID) + " for a new one, then: p2psip node init --overlay FILE", doc.Expires},
	}
	for _, e := range ends {
		switch {
		case now.After(e.at):
			add(e.hint, "%s has run out on %s", e.what, e.at.Format(time.DateOnly))
		case e.at.Sub(now) < soon:
			add(e.hint, "%s runs out on %s", e.what, e.at.Format(time.DateOnly))
		}
	}
	for _, u := range n.users.List() {
		if aor, err := doc.ID.AOR(u.Name); err == nil && !cred.Entitled(aor) {
			add("ask whoever runs "+string(doc.ID)+" for a credential with this user, or: p2psip user remove "+u.Name,
				"%s has a password, but this node's credential is not for that user", aor)
		}
	}
	for _, u := range s.Phones.Users {
		if !u.Published && !u.Since.IsZero() {
			add("it is tried again by itself; p2psip lookup "+u.AOR+" shows what others see", "%s: %s", u.AOR, u.Why)
		}
	}
	for _, r := range s.Records {
		if r.Error != "" && s.Joined && !mentioned(s.Phones.Users, r.AOR) {
			add("it is tried again by itself", "the record of %s could not be published: %s", r.AOR, r.Error)
		}
	}
	for _, p := range s.Phones.Problems {
		add("see the node's log", "%s", p)
	}
	if m := s.Media; m != nil && m.Refused > 0 {
		add("allow more with --media-ports", "%d calls were refused for want of ports or room for their sound", m.Refused)
	}
	if s.Counters.Panics > 0 {
		add("this is a fault in p2psip; please report it with the node's log", "%d messages met a fault in their handling", s.Counters.Panics)
	}
	return out
}

func mentioned(users []edge.UserStatus, aor string) bool {
	return slices.ContainsFunc(users, func(u edge.UserStatus) bool { return u.AOR == aor && !u.Published })
}

// Found is what a lookup came to.
type Found struct {
	AOR      string      `json:"aor"`
	Nodes    []FoundNode `json:"nodes"`
	Asked    int         `json:"asked"`
	Answered int         `json:"answered"`
	Copies   int         `json:"copies"`
	Refused  int         `json:"refused"`
	Hops     int         `json:"hops"`
	First    float64     `json:"first_ms"` // until the first valid record
	Took     float64     `json:"took_ms"`
}

// FoundNode is one node's part of the record.
type FoundNode struct {
	Node      string        `json:"node"`
	Addrs     []string      `json:"addrs"`
	Sequence  uint64        `json:"sequence"`
	Issued    time.Time     `json:"issued"`
	Expires   time.Time     `json:"expires"`
	Signer    string        `json:"signed_by"` // who issued the credential behind it
	SignerEnd time.Time     `json:"credential_expires"`
	Devices   []FoundDevice `json:"devices"`
}

// FoundDevice is a phone in a record.
type FoundDevice struct {
	ID      string    `json:"id"`
	Q       float64   `json:"q"`
	Expires time.Time `json:"expires"`
	Living  bool      `json:"living"`
}

// Lookup looks a user up as a call to them would, but to the end. The error wraps overlay.ErrUnknownUser,
// overlay.ErrOffline (Found is complete then) or overlay.ErrUnreachable.
func (n *Node) Lookup(ctx context.Context, aor overlay.AOR) (Found, error) {
	l := n.overlay.Lookup(ctx, aor)
	defer l.Stop()
	var rec overlay.Record
	var err error
	got := false
	for {
		r, e := l.Next(ctx)
		if e != nil {
			err = e
			break
		}
		rec, got = r, true
	}
	st := l.Stats()
	f := Found{
		AOR: aor.String(), Nodes: []FoundNode{}, Asked: st.Asked, Answered: st.Answered, Copies: st.Copies, Refused: st.Refused,
		Hops: st.Hops, First: millis(st.First), Took: millis(st.Took),
	}
	now := n.cfg.Now()
	for _, e := range rec.Nodes {
		v := FoundNode{
			Node: e.Node.String(), Addrs: e.Addrs, Sequence: e.Sequence, Issued: e.Issued.UTC(), Expires: e.Expires.UTC(),
			Devices: []FoundDevice{},
		}
		v.Signer, v.SignerEnd = l.Signer(e.Node)
		for _, d := range e.Devices {
			v.Devices = append(v.Devices, FoundDevice{d.ID, float64(d.Q) / 1000, d.Expires.UTC(), d.Expires.After(now)})
		}
		f.Nodes = append(f.Nodes, v)
	}
	switch {
	case !got:
		return f, err
	case !errors.Is(err, io.EOF):
		return f, fmt.Errorf("the search was cut short: %w", err)
	case len(rec.Live(now)) == 0:
		return f, fmt.Errorf("%w: %s", overlay.ErrOffline, aor)
	}
	return f, nil
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
