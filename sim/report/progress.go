package report

import (
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"p2psip/sim/result"
)

// Meter makes a line of a run's progress. The time left is judged by how fast it went lately, since a simulation begins
// slowly, when the nodes join, and goes on faster.
type Meter struct {
	Prefix string // of every line

	at      time.Duration // of the last judgement
	done    float64
	rate    float64 // share of the run for each second, smoothed
	virtual float64
	speed   float64 // virtual seconds for each second, smoothed
}

// Line gives one line, without its end, for what has been reached after so long: the most important first, and as much as
// there is room for.
func (m *Meter) Line(p result.Progress, elapsed time.Duration) string {
	if passed := (elapsed - m.at).Seconds(); passed >= 0.2 {
		weight := min(1, passed/(passed+5))
		if m.rate == 0 {
			weight = 1
		}
		m.rate += weight * (max(0, p.Done-m.done)/passed - m.rate)
		m.speed += weight * (max(0, p.VirtualS-m.virtual)/passed - m.speed)
		m.at, m.done, m.virtual = elapsed, p.Done, p.VirtualS
	}
	parts := []string{fmt.Sprintf("%3.0f %%", math.Floor(min(1, max(0, p.Done))*100))}
	if m.rate > 0 && p.Done < 1 {
		parts = append(parts, length((1-p.Done)/m.rate)+" left")
	}
	if p.Phase != "" {
		parts = append(parts, p.Phase)
	}
	if p.TotalS > 0 {
		parts = append(parts, length(p.VirtualS)+" of "+length(p.TotalS))
	}
	if p.Nodes > 0 {
		parts = append(parts, count(p.Nodes, "node"))
	}
	if s := elapsed.Seconds(); s > 0 && p.Messages > 0 {
		parts = append(parts, grouped(fmt.Sprintf("%.0f", float64(p.Messages)/s))+" messages/s")
	}
	if m.speed > 0 {
		parts = append(parts, fmt.Sprintf("%.3g× real time", m.speed))
	}
	line := m.Prefix
	for i, part := range parts {
		if i > 0 {
			part = "  " + part
		}
		if utf8.RuneCountInString(line+part) > lineWidth {
			break
		}
		line += part
	}
	return line
}

// lineWidth is what every terminal has room for; a longer line could not overwrite itself.
const lineWidth = 79
