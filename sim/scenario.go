package sim

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"p2psip/overlay"
	"p2psip/sim/network"
)

// Bounds on a scenario.
const (
	MaxNodes    = 200_000
	maxDuration = 30 * 24 * time.Hour
	maxRate     = 10_000 // a second
	maxEvents   = 100
	maxScenario = 64 << 10 // bytes of the text form
	maxLine     = 200
)

// Scenario is what a run simulates. Its zero value is not useful; begin with DefaultScenario.
type Scenario struct {
	Name     string
	Nodes    int
	Seed     uint64
	Join     time.Duration // over which the nodes join, one after the other; 0: 100 ms for each, 30 min at most
	Settle   time.Duration // until the idle stretch begins
	Idle     time.Duration // over which idle traffic is measured; 0: not at all
	Duration time.Duration // of the last stretch, in which everything else happens
	Stable   int           // nodes that everybody bootstraps from and that never leave

	Latency   string // "constant", "clustered" or "heavy-tailed"
	RTT       time.Duration
	Jitter    float64 // see network.Config
	Loss      float64
	Bandwidth int // bytes a second
	NAT       []NATShare
	// NATClients keeps nodes to which strangers cannot connect from serving the DHT.
	NATClients bool
	Connect    bool // who has found a user opens a stream to that user's node

	Users     int           // spread evenly over the nodes
	Lookups   float64       // a second, of registered users by random nodes
	Unknown   float64       // a second, of users nobody has
	Publishes float64       // a second, registrations of users that are registered already
	Calls     float64       // a second, between users; with calls every user has a phone, and its node is a whole one
	Talk      time.Duration // mean, of an answered call

	ProxyPeers int     // nodes that carry calls between the overlay and the public side, spread evenly
	Public     int     // subscribers of a conventional provider
	CallsOut   float64 // a second, from users to subscribers (draft 5.2)
	CallsIn    float64 // from subscribers to users (5.3)
	CallsHome  float64 // from subscribers to public addresses of users (5.4)
	ProxyKills []Kill  // of proxy peers alone

	Churn      Distribution
	Session    time.Duration // mean; 0: no churn
	Down       time.Duration // mean until a node comes back
	Silent     float64       // share of leaving nodes that say nothing
	Kills      []Kill
	Partitions []Partition

	Hostile []HostileShare
	Grow    Grow

	Advertisers int           // nodes that offer a role, spread evenly
	Finders     int           // searches for one of them, in each of the ways there are to find a role; 0: not measured
	FindTime    time.Duration // over which they search

	Stock bool // run it once more with kad-dht's own calls

	BucketSize int           // Kademlia's k
	Lifetime   time.Duration // of a record
	Timing     overlay.Timing
}

// Distribution is how the lengths of sessions are spread.
type Distribution string

// The distributions.
const (
	Exponential Distribution = "exponential"
	HeavyTailed Distribution = "heavy-tailed" // Pareto with exponent 1.5: most are short, a few last very long
)

// Kill is a part of the nodes falling silent for good at once.
type Kill struct {
	Share float64
	At    time.Duration
}

// Partition is a part of the nodes cut off from the rest for a time.
type Partition struct {
	Share float64
	At    time.Duration
	For   time.Duration
}

// NATShare is a part of the nodes behind a kind of NAT.
type NATShare struct {
	Kind  string
	Share float64
}

// natKinds names the kinds: mapping, then filtering, by RFC 4787.
var natKinds = map[string]network.NAT{
	"independent":       {Present: true, Mapping: network.EndpointIndependent, Filtering: network.EndpointIndependent},
	"address-filtering": {Present: true, Mapping: network.EndpointIndependent, Filtering: network.AddressDependent},
	"port-filtering":    {Present: true, Mapping: network.EndpointIndependent, Filtering: network.AddressAndPortDependent},
	"port-mapping":      {Present: true, Mapping: network.AddressAndPortDependent, Filtering: network.AddressAndPortDependent},
}

// DefaultScenario is a small steady overlay.
func DefaultScenario() Scenario {
	return Scenario{
		Name: "steady", Nodes: 100, Seed: 1,
		Settle: 2 * time.Minute, Idle: 10 * time.Minute, Duration: 10 * time.Minute, Stable: 3,
		Latency: "heavy-tailed", RTT: network.DefaultRTT, Jitter: 0.05,
		Users: 50, Lookups: 5, Unknown: 0.5, Publishes: 0.5, Talk: time.Minute,
		Churn: Exponential, Down: 5 * time.Minute, Silent: 0.5,
		FindTime:   10 * time.Minute,
		BucketSize: overlay.DefaultBucketSize, Lifetime: overlay.DefaultRecordLifetime,
	}
}

// setting is one line of the text form.
type setting struct {
	name string
	help string
	set  func(s *Scenario, v string) error
	get  func(s *Scenario) []string // a line each; nil: left at what DefaultScenario says
}

// settings are all lines there are, in the order in which they are written.
var settings = []setting{
	{"name", "one word for the scenario", func(s *Scenario, v string) error {
		if v == "" || len(v) > 60 || strings.Trim(v, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return errors.New("a name is lower-case letters, digits and hyphens, 60 at most")
		}
		s.Name = v
		return nil
	}, func(s *Scenario) []string { return []string{s.Name} }},
	number("nodes", "how many nodes", 2, MaxNodes, func(s *Scenario) *int { return &s.Nodes }),
	{"seed", "what all chance follows from", func(s *Scenario, v string) (err error) {
		if s.Seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			return errors.New("a seed is a number from 0 to 18446744073709551615")
		}
		return nil
	}, func(s *Scenario) []string { return []string{strconv.FormatUint(s.Seed, 10)} }},
	span("join", "over which the nodes join; 0 means 100ms for each, 30m at most", func(s *Scenario) *time.Duration { return &s.Join }),
	span("settle", "until the overlay is left alone", func(s *Scenario) *time.Duration { return &s.Settle }),
	span("idle", "how long idle traffic is measured", func(s *Scenario) *time.Duration { return &s.Idle }),
	span("duration", "how long users register and look others up", func(s *Scenario) *time.Duration { return &s.Duration }),
	number("stable", "nodes that all others bootstrap from and that never leave", 1, 1000, func(s *Scenario) *int { return &s.Stable }),
	{"latency", "constant, clustered or heavy-tailed", func(s *Scenario, v string) error {
		if !slices.Contains([]string{"constant", "clustered", "heavy-tailed"}, v) {
			return errors.New("latency is constant, clustered or heavy-tailed")
		}
		s.Latency = v
		return nil
	}, func(s *Scenario) []string { return []string{s.Latency} }},
	span("rtt", "median round trip between two nodes", func(s *Scenario) *time.Duration { return &s.RTT }),
	percent("jitter", "mean of what is added to each packet's time, as a share of it", func(s *Scenario) *float64 { return &s.Jitter }),
	percent("loss", "share of packets that have to be sent again", func(s *Scenario) *float64 { return &s.Loss }),
	number("bandwidth", "bytes a second that a node can send; 0: no bound", 0, 1<<40, func(s *Scenario) *int { return &s.Bandwidth }),
	{"nat", "a kind of NAT and the share of nodes behind it: port-filtering 30%", func(s *Scenario, v string) error {
		kind, share, _ := strings.Cut(v, " ")
		if _, ok := natKinds[kind]; !ok {
			return errors.New("a NAT is independent, address-filtering, port-filtering or port-mapping")
		}
		p, err := parseShare(strings.TrimSpace(share))
		if err != nil {
			return err
		}
		if len(s.NAT) >= maxEvents {
			return fmt.Errorf("%d lines at most", maxEvents)
		}
		s.NAT = append(s.NAT, NATShare{kind, p})
		return nil
	}, func(s *Scenario) (out []string) {
		for _, n := range s.NAT {
			out = append(out, n.Kind+" "+formatShare(n.Share))
		}
		return out
	}},
	yesNo("nat-clients", "yes: nodes to which strangers cannot connect do not serve the DHT, they only ask", func(s *Scenario) *bool { return &s.NATClients }),
	yesNo("connect", "yes: who has found a user connects to that user's node", func(s *Scenario) *bool { return &s.Connect }),
	number("users", "how many users, spread evenly over the nodes", 1, 10*MaxNodes, func(s *Scenario) *int { return &s.Users }),
	rate("lookups", "lookups of registered users: 10/s", func(s *Scenario) *float64 { return &s.Lookups }),
	rate("unknown", "lookups of users nobody has", func(s *Scenario) *float64 { return &s.Unknown }),
	rate("publishes", "registrations of users that are registered already", func(s *Scenario) *float64 { return &s.Publishes }),
	rate("calls", "calls between users; every user has a phone then, which registers by itself instead of publishes", func(s *Scenario) *float64 { return &s.Calls }),
	span("talk", "mean length of a talk", func(s *Scenario) *time.Duration { return &s.Talk }),
	number("proxypeers", "proxy peers, spread evenly", 0, MaxNodes, func(s *Scenario) *int { return &s.ProxyPeers }),
	number("public", "subscribers of a conventional provider", 0, 10_000, func(s *Scenario) *int { return &s.Public }),
	rate("calls-out", "calls from users to subscribers (draft 5.2)", func(s *Scenario) *float64 { return &s.CallsOut }),
	rate("calls-in", "calls from subscribers to users (draft 5.3)", func(s *Scenario) *float64 { return &s.CallsIn }),
	rate("calls-home", "calls from subscribers to public addresses of users (draft 5.4)", func(s *Scenario) *float64 { return &s.CallsHome }),
	{"kill-proxypeers", "a share of the proxy peers falls silent for good: 50%@2m", func(s *Scenario, v string) error {
		share, at, err := parseAt(v)
		if err != nil {
			return err
		}
		if len(s.ProxyKills) >= maxEvents {
			return fmt.Errorf("%d lines at most", maxEvents)
		}
		s.ProxyKills = append(s.ProxyKills, Kill{share, at})
		return nil
	}, func(s *Scenario) (out []string) {
		for _, k := range s.ProxyKills {
			out = append(out, formatShare(k.Share)+"@"+k.At.String())
		}
		return out
	}},
	{"churn", "mean session, with its distribution before it if that is not exponential: heavy-tailed 30m", func(s *Scenario, v string) error {
		kind, mean, ok := strings.Cut(v, " ")
		if !ok {
			kind, mean = string(Exponential), v
		}
		if kind != string(Exponential) && kind != string(HeavyTailed) {
			return errors.New("sessions are exponential or heavy-tailed")
		}
		d, err := parseDuration(strings.TrimSpace(mean))
		if err != nil {
			return err
		}
		if d > 0 && d < time.Second {
			return errors.New("a session lasts a second at least")
		}
		s.Churn, s.Session = Distribution(kind), d
		return nil
	}, func(s *Scenario) []string { return []string{string(s.Churn) + " " + s.Session.String()} }},
	span("down", "mean time until a node that has left comes back", func(s *Scenario) *time.Duration { return &s.Down }),
	percent("silent", "share of leaving nodes that say nothing", func(s *Scenario) *float64 { return &s.Silent }),
	{"kill", "a share of the nodes falls silent for good: 20%@10m", func(s *Scenario, v string) error {
		share, at, err := parseAt(v)
		if err != nil {
			return err
		}
		if len(s.Kills) >= maxEvents {
			return fmt.Errorf("%d lines at most", maxEvents)
		}
		s.Kills = append(s.Kills, Kill{share, at})
		return nil
	}, func(s *Scenario) (out []string) {
		for _, k := range s.Kills {
			out = append(out, formatShare(k.Share)+"@"+k.At.String())
		}
		return out
	}},
	{"partition", "a share of the nodes is cut off for a time: 30%@10m+5m", func(s *Scenario, v string) error {
		v, length, ok := strings.Cut(v, "+")
		if !ok {
			return errors.New("a partition is share@time+length, as in 30%@10m+5m")
		}
		share, at, err := parseAt(v)
		if err != nil {
			return err
		}
		d, err := parseDuration(length)
		if err != nil {
			return err
		}
		if len(s.Partitions) >= maxEvents {
			return fmt.Errorf("%d lines at most", maxEvents)
		}
		s.Partitions = append(s.Partitions, Partition{share, at, d})
		return nil
	}, func(s *Scenario) (out []string) {
		for _, p := range s.Partitions {
			out = append(out, formatShare(p.Share)+"@"+p.At.String()+"+"+p.For.String())
		}
		return out
	}},
	{"grow", "the overlay grows while it is used, by the same factor in the same time: 10 -> 3000 over 2h", setGrow, (*Scenario).getGrow},
	{"hostile", "a kind of hostile nodes and their share: liars 10%; " + strings.Join(hostileKinds, ", "), func(s *Scenario, v string) error {
		h, err := parseHostile(v)
		if err != nil {
			return err
		}
		if len(s.Hostile) >= maxEvents {
			return fmt.Errorf("%d lines at most", maxEvents)
		}
		s.Hostile = append(s.Hostile, h)
		return nil
	}, func(s *Scenario) (out []string) {
		for _, h := range s.Hostile {
			out = append(out, h.Kind+" "+formatShare(h.Share))
		}
		return out
	}},
	yesNo("stock", "yes: the same network once more with kad-dht's own calls in place of the overlay's", func(s *Scenario) *bool { return &s.Stock }),
	number("advertisers", "nodes that offer a role, spread evenly", 0, MaxNodes, func(s *Scenario) *int { return &s.Advertisers }),
	number("finders", "searches for a node with the role, in each way of finding it", 0, 10_000_000, func(s *Scenario) *int { return &s.Finders }),
	span("find-time", "over which they search", func(s *Scenario) *time.Duration { return &s.FindTime }),
	number("bucket", "Kademlia's k", 2, 100, func(s *Scenario) *int { return &s.BucketSize }),
	span("lifetime", "of a record", func(s *Scenario) *time.Duration { return &s.Lifetime }),
	number("alpha", "nodes asked at a time", 0, 100, func(s *Scenario) *int { return &s.Timing.Alpha }),
	number("agree", "equal copies that make a lookup sure", 0, 100, func(s *Scenario) *int { return &s.Timing.Agree }),
	span("dial", "for a connection to be made", func(s *Scenario) *time.Duration { return &s.Timing.Dial }),
	span("rpc", "for a request to be answered", func(s *Scenario) *time.Duration { return &s.Timing.RPC }),
	span("hedge", "after which a request counts as slow", func(s *Scenario) *time.Duration { return &s.Timing.Hedge }),
	span("walk", "for a whole search", func(s *Scenario) *time.Duration { return &s.Timing.Walk }),
	span("linger", "how long a lookup goes on after the first record", func(s *Scenario) *time.Duration { return &s.Timing.Settle }),
	span("early", "until a record that too few nodes store is published again", func(s *Scenario) *time.Duration { return &s.Timing.Early }),
}

func yesNo(name, help string, field func(*Scenario) *bool) setting {
	return setting{name, help, func(s *Scenario, v string) error {
		if v != "yes" && v != "no" {
			return errors.New("yes or no is wanted")
		}
		*field(s) = v == "yes"
		return nil
	}, func(s *Scenario) []string {
		if *field(s) {
			return []string{"yes"}
		}
		return []string{"no"}
	}}
}

func number(name, help string, lo, hi int, field func(*Scenario) *int) setting {
	return setting{name, help, func(s *Scenario, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < lo || n > hi {
			return fmt.Errorf("a number from %d to %d is wanted", lo, hi)
		}
		*field(s) = n
		return nil
	}, func(s *Scenario) []string { return []string{strconv.Itoa(*field(s))} }}
}

func span(name, help string, field func(*Scenario) *time.Duration) setting {
	return setting{name, help, func(s *Scenario, v string) (err error) {
		d, err := parseDuration(v)
		if err != nil {
			return err
		}
		*field(s) = d
		return nil
	}, func(s *Scenario) []string { return []string{field(s).String()} }}
}

func percent(name, help string, field func(*Scenario) *float64) setting {
	return setting{name, help, func(s *Scenario, v string) error {
		p, err := parseShare(v)
		if err != nil {
			return err
		}
		*field(s) = p
		return nil
	}, func(s *Scenario) []string { return []string{formatShare(*field(s))} }}
}

func rate(name, help string, field func(*Scenario) *float64) setting {
	return setting{name, help, func(s *Scenario, v string) error {
		amount, unit, ok := strings.Cut(v, "/")
		f, err := strconv.ParseFloat(amount, 64)
		per := map[string]float64{"s": 1, "m": 60, "h": 3600}[unit]
		if err != nil || !ok || per == 0 || !(f >= 0 && f <= maxRate*3600) || f/per > maxRate {
			return fmt.Errorf("a rate is a number and /s, /m or /h, at most %d/s", maxRate)
		}
		*field(s) = f / per
		return nil
	}, func(s *Scenario) []string { return []string{strconv.FormatFloat(*field(s), 'g', -1, 64) + "/s"} }}
}

func parseDuration(v string) (time.Duration, error) {
	if v == "0" {
		return 0, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 || d > maxDuration {
		return 0, fmt.Errorf("a duration is wanted, as in 80ms or 1h30m, %v at most", maxDuration)
	}
	return d, nil
}

func parseShare(v string) (float64, error) {
	digits, ok := strings.CutSuffix(v, "%")
	f, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || !(f >= 0 && f <= 100) {
		return 0, errors.New("a share is a number from 0 to 100 and %")
	}
	return f / 100, nil
}

func formatShare(f float64) string { return strconv.FormatFloat(100*f, 'g', 12, 64) + "%" }

func parseAt(v string) (share float64, at time.Duration, err error) {
	p, when, ok := strings.Cut(v, "@")
	if !ok {
		return 0, 0, errors.New("a share and a time are wanted, as in 20%@10m")
	}
	if share, err = parseShare(p); err != nil {
		return 0, 0, err
	}
	at, err = parseDuration(when)
	return share, at, err
}

// Names gives the names that Set knows, each with what it means.
func Names() (names, help []string) {
	for _, st := range settings {
		names, help = append(names, st.name), append(help, st.help)
	}
	return names, help
}

// Set changes one setting, as a line of the text form does. Settings of which there may be several add to what is there.
func (s *Scenario) Set(name, value string) error {
	i := slices.IndexFunc(settings, func(st setting) bool { return st.name == name })
	if i < 0 {
		return fmt.Errorf("there is no setting %.40q", name)
	}
	if err := settings[i].set(s, value); err != nil {
		return fmt.Errorf("%s %.60q: %w", name, value, err)
	}
	return nil
}

// Validate tells what does not fit together.
func (s *Scenario) Validate() error {
	switch {
	case s.Nodes < 2 || s.Nodes > MaxNodes:
		return fmt.Errorf("%d nodes: 2 to %d", s.Nodes, MaxNodes)
	case s.Stable < 1 || s.Stable > s.Nodes:
		return fmt.Errorf("%d stable nodes of %d", s.Stable, s.Nodes)
	case s.Duration <= 0:
		return errors.New("a duration is needed")
	case s.RTT <= 0:
		return errors.New("a round trip is needed")
	case s.Lifetime < time.Minute:
		return errors.New("a record lives a minute at least")
	case s.Users < 1:
		return errors.New("users are needed")
	case s.calling() && s.Users < 2:
		return errors.New("calls need two users")
	case s.crossing() && (s.ProxyPeers < 1 || s.Public < 1):
		return errors.New("calls that cross the border need proxypeers and public subscribers")
	case s.ProxyPeers > s.Nodes-s.Stable:
		return fmt.Errorf("%d proxy peers among %d nodes that are not stable", s.ProxyPeers, s.Nodes-s.Stable)
	case s.ProxyPeers > 0 && !s.crossing():
		return errors.New("proxy peers are there for calls-out, calls-in and calls-home; see advertisers for the role alone")
	case s.Users > 50*s.Nodes:
		return fmt.Errorf("%d users are too many for %d nodes, 50 for each at most", s.Users, s.Nodes)
	case s.Advertisers > s.Nodes:
		return fmt.Errorf("%d advertisers of %d nodes", s.Advertisers, s.Nodes)
	case s.Finders > 0 && (s.Advertisers == 0 || s.FindTime < time.Second):
		return errors.New("finders need advertisers to find, and a time to do so")
	case s.Loss > 0.9:
		return errors.New("with more than 90% lost nothing can be simulated")
	case s.Session > 0 && s.Down <= 0:
		return errors.New("nodes that leave need a time to be down")
	case s.Stock && (s.Session > 0 || len(s.Partitions) > 0):
		return errors.New("kad-dht's own calls can be run beside ours without churn and partitions only")
	}
	behind := 0.0
	for _, n := range s.NAT {
		behind += n.Share
	}
	if behind > 1+1e-9 {
		return errors.New("more nodes behind NATs than there are")
	}
	for _, k := range slices.Concat(s.Kills, s.ProxyKills) {
		if k.At > s.Duration {
			return fmt.Errorf("a kill at %v is after the end", k.At)
		}
	}
	if err := s.validateHostile(); err != nil {
		return err
	}
	if err := s.validateGrow(); err != nil {
		return err
	}
	for i, p := range s.Partitions {
		if p.At+p.For > s.Duration {
			return fmt.Errorf("a partition at %v ends after the end", p.At)
		}
		if i > 0 && p.At < s.Partitions[i-1].At+s.Partitions[i-1].For {
			return errors.New("partitions must follow each other")
		}
	}
	return nil
}

// ParseScenario reads the text form: a setting a line, its name and its value, # begins a comment. What is not set stays
// as in DefaultScenario. Errors name the line.
func ParseScenario(text string) (Scenario, error) {
	s := DefaultScenario()
	if len(text) > maxScenario {
		return s, fmt.Errorf("a scenario of %d bytes, %d are allowed", len(text), maxScenario)
	}
	seen := map[string]int{}
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if len(line) > maxLine {
			return s, fmt.Errorf("line %d: longer than %d bytes", i+1, maxLine)
		}
		name, value, _ := strings.Cut(line, " ")
		value = strings.Join(strings.Fields(value), " ")
		if at := seen[name]; at > 0 && name != "kill" && name != "kill-proxypeers" && name != "partition" && name != "nat" && name != "hostile" {
			return s, fmt.Errorf("line %d: %s was set in line %d", i+1, name, at)
		}
		seen[name] = i + 1
		if err := s.Set(name, value); err != nil {
			return s, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return s, s.Validate()
}

// String gives the text form: every setting that is not as in DefaultScenario, and always the name, nodes, seed and
// duration.
func (s *Scenario) String() string {
	def := DefaultScenario()
	var b strings.Builder
	for _, st := range settings {
		always := st.name == "name" || st.name == "nodes" || st.name == "seed" || st.name == "duration"
		lines := st.get(s)
		if !always && slices.Equal(lines, st.get(&def)) {
			continue
		}
		for _, l := range lines {
			fmt.Fprintf(&b, "%s %s\n", st.name, l)
		}
	}
	return b.String()
}

// calling says whether users have phones.
func (s *Scenario) calling() bool { return s.Calls > 0 || s.crossing() }

// crossing says whether calls leave the overlay, or enter it.
func (s *Scenario) crossing() bool { return s.CallsOut > 0 || s.CallsIn > 0 || s.CallsHome > 0 }
