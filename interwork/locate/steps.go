package locate

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Step is one thing that was asked or concluded on the way to the targets. What stands in it comes from the zones of
// strangers; its texts are escaped.
type Step struct {
	Question Question     // Type 0: nothing was asked
	Answer   *Answer      // nil if there is none
	Cached   bool         // the answer was known
	Err      error        // why there is no answer
	Beside   []netip.Addr // addresses that came in the additional section of the SRV records before
	Verdicts []string     // for each record of the answer, why it is not used; "" is used; nil: all are
	Note     string       // what followed from it
}

// String writes the step on one line, and a line more for each record.
func (s Step) String() string {
	var b strings.Builder
	s.write(&b)
	return b.String()
}

func (s Step) write(b *strings.Builder) {
	if s.Question.Type == 0 {
		b.WriteString(s.Note)
		return
	}
	fmt.Fprintf(b, "%s: %s", s.Question, s.said())
	if from := s.from(); from != "" {
		fmt.Fprintf(b, " (%s)", from)
	}
	if s.Note != "" {
		fmt.Fprintf(b, "; %s", s.Note)
	}
	for _, line := range s.records() {
		fmt.Fprintf(b, "\n    %s", line)
	}
}

// said is the answer in a word.
func (s Step) said() string {
	switch {
	case s.Beside != nil:
		list := make([]string, len(s.Beside))
		for i, a := range s.Beside {
			list[i] = a.String()
		}
		return strings.Join(list, ", ")
	case s.Err != nil:
		if q, ok := s.Err.(*questionError); ok {
			if len(q.tried) > 0 {
				return fmt.Sprintf("%v (%s)", q.err, strings.Join(q.tried, "; "))
			}
			return q.err.Error()
		}
		return s.Err.Error()
	case s.Answer == nil:
		return "not asked"
	}
	var b strings.Builder
	if len(s.Answer.Aliases) > 0 {
		fmt.Fprintf(&b, "an alias of %s: ", undot(s.Answer.Aliases[len(s.Answer.Aliases)-1]))
	}
	switch {
	case s.Answer.Outcome != Found:
		b.WriteString(s.Answer.Outcome.String())
	case isAddress(s.Question.Type):
		for i, rr := range s.Answer.Records {
			if i > 0 {
				b.WriteString(", ")
			}
			a, _ := address(rr)
			b.WriteString(a.String())
		}
	case len(s.Answer.Records) == 1:
		b.WriteString("1 record")
	default:
		fmt.Fprintf(&b, "%d records", len(s.Answer.Records))
	}
	if s.Answer.Left > 0 {
		fmt.Fprintf(&b, " and %d more that are not looked at", s.Answer.Left)
	}
	return b.String()
}

// from is where the answer came from.
func (s Step) from() string {
	switch {
	case s.Answer == nil:
		return ""
	case s.Cached:
		return fmt.Sprintf("known from %s", s.Answer.Server)
	}
	return fmt.Sprintf("%s over %s, %.1f ms", s.Answer.Server, s.Answer.Network, float64(s.Answer.Took)/float64(time.Millisecond))
}

// records writes those of an answer that choose something, in the order of the answer.
func (s Step) records() []string {
	if s.Answer == nil || isAddress(s.Question.Type) {
		return nil
	}
	var lines []string
	for i, rr := range s.Answer.Records {
		line := data(rr)
		if i < len(s.Verdicts) && s.Verdicts[i] != "" {
			line += " — " + s.Verdicts[i]
		}
		lines = append(lines, line)
	}
	return lines
}

// data words what a record says.
func data(rr dns.RR) string {
	switch rr := rr.(type) {
	case *dns.SRV:
		return fmt.Sprintf("priority %d, weight %d: %s port %d", rr.Priority, rr.Weight, undot(rr.Target), rr.Port)
	case *dns.NAPTR:
		// Flags, service and regular expression are free text; the library keeps them escaped as in a zone file.
		return fmt.Sprintf("order %d, preference %d: \"%s\" \"%s\" %s", rr.Order, rr.Preference, rr.Flags, rr.Service, undot(rr.Replacement))
	}
	return strings.TrimPrefix(rr.String(), rr.Header().String())
}

// MarshalJSON writes the step for programs:
//
//	{"query":"SRV _sip._udp.example.com","outcome":"found","records":["…"],"server":"192.0.2.53:53","network":"udp",
//	 "cached":false,"ms":1.2,"aliases":["…"],"error":"…","note":"…"}
func (s Step) MarshalJSON() ([]byte, error) {
	v := struct {
		Query   string   `json:"query,omitempty"`
		Outcome string   `json:"outcome,omitempty"`
		Records []string `json:"records,omitempty"`
		Aliases []string `json:"aliases,omitempty"`
		Server  string   `json:"server,omitempty"`
		Network string   `json:"network,omitempty"`
		Cached  bool     `json:"cached,omitempty"`
		Millis  float64  `json:"ms,omitempty"`
		Error   string   `json:"error,omitempty"`
		Note    string   `json:"note,omitempty"`
	}{Note: s.Note}
	if s.Question.Type != 0 {
		v.Query = s.Question.String()
	}
	for _, a := range s.Beside {
		v.Outcome = "beside"
		v.Records = append(v.Records, a.String())
	}
	if s.Err != nil {
		v.Error = s.said()
	}
	if a := s.Answer; a != nil {
		v.Outcome, v.Server, v.Cached = a.Outcome.String(), a.Server.String(), s.Cached
		for _, n := range a.Aliases {
			v.Aliases = append(v.Aliases, undot(n))
		}
		if !s.Cached {
			v.Network, v.Millis = a.Network, float64(a.Took.Microseconds())/1000
		}
		if v.Records = s.records(); isAddress(s.Question.Type) {
			for _, rr := range a.Records {
				addr, _ := address(rr)
				v.Records = append(v.Records, addr.String())
			}
		}
	}
	return json.Marshal(v)
}

// String explains the result, for a terminal.
func (r Result) String() string {
	var b strings.Builder
	fmt.Fprintln(&b, r.URI)
	for _, s := range r.Steps {
		b.WriteString("  ")
		s.write(&b)
		b.WriteByte('\n')
	}
	if len(r.Targets) == 0 {
		b.WriteString("no targets\n")
		return b.String()
	}
	b.WriteString("targets, in the order of trying:\n")
	for i, t := range r.Targets {
		fmt.Fprintf(&b, "  %d  %s %s", i+1, t.Transport, t.Addr)
		if t.Host != "" {
			fmt.Fprintf(&b, "  %s", t.Host)
		}
		if t.SRV != "" {
			fmt.Fprintf(&b, ", by %s", t.SRV)
		}
		if t.Transport == TLS {
			fmt.Fprintf(&b, ", certificate for %s", t.Name)
		}
		b.WriteByte('\n')
	}
	if !r.Rested.IsZero() {
		fmt.Fprintf(&b, "  the last of them failed lately and stay there until %s\n", r.Rested.Format(time.TimeOnly))
	}
	return b.String()
}

// isAddress says that records of this type hold an address.
func isAddress(qtype uint16) bool { return qtype == dns.TypeA || qtype == dns.TypeAAAA }
