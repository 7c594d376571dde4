package report

import (
	"fmt"
	"math"
	"strings"

	"p2psip/sim/result"
)

// Sentences says what a run has shown, for somebody who has never heard of percentiles. Only what was measured is said.
func Sentences(r *result.Run) []string {
	var out []string
	say := func(format string, a ...any) { out = append(out, fmt.Sprintf(format, a...)) }
	if o := r.Lookup; o != nil && o.P50MS.Known() {
		say("bob was found in %s; %s found their user, 95 %% of them within %s.",
			duration(o.P50MS), outOf(o.Success, o.Count, "lookup"), within(o.P95MS))
	} else if o != nil {
		say("bob was never found: %s tried, none succeeded.", count(o.Count, "lookup"))
	}
	if v, ok := r.Fresh.Get(); ok && v < 1 {
		say("%s of the records found were the newest there were.", result.Ratio.Write(r.Fresh))
	} else if ok {
		say("Every record found was the newest there was.")
	}
	callSentences(r.Calls, say)
	if o := r.Publish; o != nil && o.P50MS.Known() {
		say("Registering a phone took %s, in 95 %% of the cases at most %s; %s succeeded.",
			duration(o.P50MS), within(o.P95MS), outOf(o.Success, o.Count, "registration"))
	} else if o != nil {
		say("No phone could register, of %d tried.", o.Count)
	}
	if o := r.Unknown; o != nil && o.P50MS.Known() {
		say("Who dials somebody who does not exist hears so after %s, in 95 %% of the cases within %s.", duration(o.P50MS), within(o.P95MS))
	}
	if v, ok := r.IdleBytesPerS.Get(); ok {
		say("A node that nobody uses sends %s, %s a day.", result.BytesPerS.Write(r.IdleBytesPerS), result.Bytes.Write(result.V(v*86400)))
	}
	if v, ok := r.MessagesPerNodeMin.Get(); ok {
		say("Each node sends %s messages in a minute.", result.Plain.Write(result.V(v)))
	}
	if l := r.Load; l != nil && l.Requests != nil {
		say("The busiest node served %s times as many requests as the one in the middle.", result.Plain.Write(l.Requests.MaxOverMedian))
	}
	if o := r.Connect; o != nil {
		say("Of the users found, the node of %s could be reached.", result.Ratio.Write(o.Success))
	}
	out = append(out, hostileSentence(r)...)
	if h := r.HotKey; h != nil && h.MaxOverMedian.Known() {
		say("When everybody wants the same key, the busiest node has %s times as much to do as the one in the middle.",
			result.Plain.Write(h.MaxOverMedian))
	}
	return out
}

// Headline says what was simulated, in one line.
func Headline(r *result.Run) string {
	parts := []string{count(r.Nodes, "node"), length(r.VirtualS) + " of virtual time"}
	if len(r.Seeds) > 1 {
		parts = append(parts, fmt.Sprintf("%d seeds", len(r.Seeds)))
	} else {
		parts = append(parts, fmt.Sprintf("seed %d", r.Seed))
	}
	if r.WallS > 0 {
		parts = append(parts, "simulated in "+length(r.WallS))
	}
	name := r.Name
	if name == "" {
		name = "simulation"
	}
	return name + ": " + strings.Join(parts, ", ")
}

// duration writes a delay in few digits: "0.2 s", "12 ms".
func duration(v result.Value) string {
	ms := v.Or(0)
	switch {
	case ms < 1:
		return "less than 1 ms"
	case ms < 100:
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.1f s", ms/1000)
}

// within writes a delay as a bound.
func within(v result.Value) string { return duration(result.V(max(1, v.Or(0)))) }

// outOf writes a share the way people count: "999 of 1000 calls", "all 20 calls". It never rounds up to all.
func outOf(v result.Value, n int, one string) string {
	f, ok := v.Get()
	switch {
	case !ok:
		return "an unknown number of " + one + "s"
	case f == 1 && n == 1:
		return "the only " + one
	case f == 1:
		return "all " + count(n, one)
	case f == 0:
		return "none of " + count(n, one)
	}
	whole := 100.0
	for whole < 1e7 && whole*min(f, 1-f) < 1-1e-9 {
		whole *= 10
	}
	return fmt.Sprintf("%.0f of %.0f %ss", math.Floor(f*whole+1e-9), whole, one)
}

// count writes "1 node", "1,000 nodes".
func count(n int, one string) string {
	s := grouped(fmt.Sprint(n)) + " " + one
	if n != 1 {
		s += "s"
	}
	return s
}

// grouped puts commas between thousands.
func grouped(digits string) string {
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// length writes a longer time: "35 s", "12 min", "1 h", "1 h 30 min".
func length(s float64) string {
	switch {
	case s < 10:
		return fmt.Sprintf("%.1f s", s)
	case s < 120:
		return fmt.Sprintf("%.0f s", s)
	case s < 3600:
		if m, rest := math.Floor(s/60), math.Round(math.Mod(s, 60)); rest > 0 && rest < 60 && m < 10 {
			return fmt.Sprintf("%.0f min %.0f s", m, rest)
		}
		return fmt.Sprintf("%.0f min", s/60)
	}
	minutes := int(math.Round(s / 60))
	if minutes%60 == 0 {
		return fmt.Sprintf("%d h", minutes/60)
	}
	return fmt.Sprintf("%d h %d min", minutes/60, minutes%60)
}

// capital makes the first letter of a sentence large.
func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
