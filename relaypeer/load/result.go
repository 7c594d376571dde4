package load

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Round is one relay's figures of one round.
type Round struct {
	Relay    Relay         `json:"relay"`
	Sent     int           `json:"sent"`
	Arrived  int           `json:"arrived"`
	CPU      time.Duration `json:"cpu_ns"`  // of the relay's process, while Arrived arrived
	Wall     time.Duration `json:"wall_ns"` // the same on the clock
	P50      time.Duration `json:"p50_ns"`  // of the delay
	P99      time.Duration `json:"p99_ns"`
	Max      time.Duration `json:"max_ns"`
	Late     time.Duration `json:"late_p99_ns"` // how late the generator sent
	RSSEmpty int64         `json:"rss_empty"`   // octets
	RSSFull  int64         `json:"rss_full"`
}

// PerMillion gives the seconds of CPU for a million packets relayed.
func (r Round) PerMillion() float64 {
	if r.Arrived == 0 {
		return 0
	}
	return r.CPU.Seconds() / float64(r.Arrived) * 1e6
}

// Result is everything that was measured.
type Result struct {
	Config Config            `json:"config"`
	System string            `json:"system"`
	Absent map[Relay]string  `json:"absent,omitempty"` // relays that could not be measured, and why
	Rounds []Round           `json:"rounds"`
	Relays map[Relay]Summary `json:"relays"`
}

// Summary is one relay over all rounds.
type Summary struct {
	CPU           Spread  `json:"cpu_s_per_million"`
	Ratio         float64 `json:"ratio_to_coturn,omitempty"` // of the medians of CPU; 0 without coturn
	P50           Spread  `json:"p50_ms"`
	P99           Spread  `json:"p99_ms"`
	Lost          Spread  `json:"lost_percent"`
	RSS           Spread  `json:"rss_mib"`                // with all allocations
	PerAllocation Spread  `json:"rss_kib_per_allocation"` // grown by
}

// Spread is a median and what lies around it.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func spread(v []float64) Spread {
	if len(v) == 0 {
		return Spread{}
	}
	slices.Sort(v)
	m := v[len(v)/2]
	if len(v)%2 == 0 {
		m = (v[len(v)/2-1] + m) / 2
	}
	return Spread{Median: m, Min: v[0], Max: v[len(v)-1]}
}

// summarize fills in Relays.
func (r *Result) summarize() {
	r.Relays = map[Relay]Summary{}
	for _, relay := range r.Config.Relays {
		of := func(f func(Round) float64) Spread {
			var v []float64
			for _, one := range r.Rounds {
				if one.Relay == relay {
					v = append(v, f(one))
				}
			}
			return spread(v)
		}
		if !slices.ContainsFunc(r.Rounds, func(one Round) bool { return one.Relay == relay }) {
			continue
		}
		ms := func(d time.Duration) float64 { return d.Seconds() * 1e3 }
		r.Relays[relay] = Summary{
			CPU: of(Round.PerMillion),
			P50: of(func(o Round) float64 { return ms(o.P50) }),
			P99: of(func(o Round) float64 { return ms(o.P99) }),
			Lost: of(func(o Round) float64 {
				return 100 * float64(o.Sent-o.Arrived) / float64(max(o.Sent, 1))
			}),
			RSS: of(func(o Round) float64 { return float64(o.RSSFull) / (1 << 20) }),
			PerAllocation: of(func(o Round) float64 {
				return float64(o.RSSFull-o.RSSEmpty) / 1024 / float64(r.Config.Allocations)
			}),
		}
	}
	if base, ok := r.Relays[Coturn]; ok && base.CPU.Median > 0 {
		for relay, s := range r.Relays {
			s.Ratio = s.CPU.Median / base.CPU.Median
			r.Relays[relay] = s
		}
	}
}

// Table gives the rows of what people read, the heading first.
func (r *Result) Table() [][]string {
	rows := [][]string{{"relay", "CPU s/million", "(least … most)", "ratio", "delay p50 ms", "p99 ms", "(least … most)", "lost %", "RSS MiB", "KiB/allocation"}}
	for _, relay := range r.Config.Relays {
		s, ok := r.Relays[relay]
		if !ok {
			continue
		}
		ratio := "–"
		if s.Ratio > 0 {
			ratio = fmt.Sprintf("%.2f", s.Ratio)
		}
		rows = append(rows, []string{
			string(relay), fmt.Sprintf("%.2f", s.CPU.Median), fmt.Sprintf("(%.2f … %.2f)", s.CPU.Min, s.CPU.Max), ratio,
			fmt.Sprintf("%.2f", s.P50.Median), fmt.Sprintf("%.2f", s.P99.Median), fmt.Sprintf("(%.2f … %.2f)", s.P99.Min, s.P99.Max),
			fmt.Sprintf("%.3f", s.Lost.Median), fmt.Sprintf("%.1f", s.RSS.Median), fmt.Sprintf("%.1f", s.PerAllocation.Median),
		})
	}
	return rows
}

// Conditions says in a sentence what was measured.
func (r *Result) Conditions() string {
	c := r.Config
	s := fmt.Sprintf("%d allocations, %d octets, %g packets/s each way in each: %.0f packets/s relayed; %d rounds of %v by turns",
		c.Allocations, c.Payload, c.Rate, 2*c.Rate*float64(c.Allocations), c.Rounds, c.Duration)
	if r.System != "" {
		s += "; " + r.System
	}
	var absent []string
	for relay, why := range r.Absent {
		absent = append(absent, fmt.Sprintf("%s was not measured: %s", relay, why))
	}
	slices.SortFunc(absent, cmp.Compare[string])
	return strings.Join(append([]string{s}, absent...), "\n")
}
