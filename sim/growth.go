package sim

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"p2psip/sim/result"
)

// Grow is an overlay that grows while it is used: From nodes join at first, and at the end of Over there are all of them.
// It grows by the same factor in the same time. From 0: all join at first.
type Grow struct {
	From int
	Over time.Duration
}

// growthSteps is how many points are taken for each doubling.
const growthSteps = 2

// setGrow reads "10 -> 3000 over 2h".
func setGrow(s *Scenario, v string) error {
	sizes, over, ok := strings.Cut(v, " over ")
	from, to, ok2 := strings.Cut(sizes, "->")
	if !ok || !ok2 {
		return errors.New("growth is written 10 -> 3000 over 2h")
	}
	a, err1 := strconv.Atoi(strings.TrimSpace(from))
	b, err2 := strconv.Atoi(strings.TrimSpace(to))
	d, err3 := parseDuration(strings.TrimSpace(over))
	switch {
	case errors.Join(err1, err2, err3) != nil:
		return errors.New("growth is two numbers of nodes and a time, as in 10 -> 3000 over 2h")
	case a < 2 || b > MaxNodes || a >= b:
		return fmt.Errorf("an overlay grows from at least 2 nodes to at most %d", MaxNodes)
	case d < time.Minute:
		return errors.New("growth takes a minute at least")
	}
	s.Grow, s.Nodes = Grow{a, d}, b
	return nil
}

func (s *Scenario) getGrow() []string {
	if s.Grow.From == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%d -> %d over %v", s.Grow.From, s.Nodes, s.Grow.Over)}
}

func (s *Scenario) validateGrow() error {
	switch g := s.Grow; {
	case g.From == 0:
	case g.From >= s.Nodes || g.From < s.Stable:
		return fmt.Errorf("an overlay that grows from %d nodes, of which %d are stable, to %d", g.From, s.Stable, s.Nodes)
	case g.Over > s.Duration:
		return fmt.Errorf("growth over %v in a run of %v", g.Over, s.Duration)
	case s.Session > 0 || len(s.Kills) > 0 || s.Stock:
		return errors.New("while an overlay grows nodes do not come and go, and kad-dht's own calls are not run")
	}
	return nil
}

// joinAt gives when a node starts, from the beginning of the run.
func (s *Scenario) joinAt(i int) time.Duration {
	first := s.Nodes
	if s.Grow.From > 0 {
		first = s.Grow.From
	}
	if i < first {
		return time.Duration(i) * s.joinTime() / time.Duration(first)
	}
	grown := math.Log(float64(i)/float64(first)) / math.Log(float64(s.Nodes)/float64(first))
	return s.joinTime() + s.Settle + s.Idle + time.Duration(grown*float64(s.Grow.Over))
}

// stretch is the time in which an overlay grew from one size to the next.
type stretch struct {
	from, to   time.Duration // since the last stretch began
	nodes      int           // in the middle, by the geometric mean
	nodeTime   time.Duration // running time of all nodes
	messages   uint64        // sent by all nodes
	bytes      uint64
	heap       uint64 // at the end, for each node
	opMessages int    // of what users did
	opBytes    int
}

// growing watches the overlay grow, and notes for each stretch what it cost.
func (r *run) growing() {
	if r.s.Grow.From == 0 {
		return
	}
	factor := float64(r.s.Nodes) / float64(r.s.Grow.From)
	steps := max(1, int(math.Round(math.Log2(factor)*growthSteps)))
	last := r.instant()
	for i := range steps {
		end := r.s.Grow.Over*time.Duration(i+1)/time.Duration(steps) - time.Millisecond // the last one before the run ends
		if !r.sleep(end - r.sinceMeasured()) {
			return
		}
		now := r.instant()
		runtime.GC()
		heap, _, _ := memory()
		s := stretch{
			from: last.at, to: now.at,
			nodes:    int(math.Round(math.Sqrt(float64(last.up) * float64(now.up)))),
			nodeTime: now.upFor - last.upFor, messages: now.messages - last.messages, bytes: now.bytes - last.bytes,
			heap: heap / uint64(max(1, now.up)),
		}
		r.mu.Lock()
		r.stretches = append(r.stretches, s)
		r.mu.Unlock()
		last = now
	}
}

// instant is what was counted up to one instant.
type instant struct {
	at, upFor       time.Duration
	up              int
	messages, bytes uint64
}

func (r *run) instant() instant {
	var now instant
	for _, c := range r.countAll() {
		now.messages += c.Total().Messages
		now.bytes += bytesOf(c)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count(0)
	now.at, now.upFor, now.up = time.Since(r.measured), r.upFor, r.up
	return now
}

// growth makes the points over the number of nodes. What users did is taken out of what nodes sent, so that the messages of
// a node are its upkeep, however many lookups there were. r.mu is held.
func (r *run) growth() []result.Growth {
	var out []result.Growth
	for i := range r.stretches {
		s := &r.stretches[i]
		during := func(list []*measured) (out []result.Sample) {
			for _, m := range r.samples(list) {
				if m.At >= s.from && m.At < s.to {
					s.opMessages += m.Messages
					s.opBytes += m.Bytes
					out = append(out, m)
				}
			}
			return out
		}
		lookups := during(r.lookups)
		during(r.publishes)
		during(r.unknowns)
		g := result.Growth{Nodes: s.nodes, Log2: result.Log2(s.nodes), HeapPerNode: result.V(float64(s.heap))}
		if o := result.Summarize(lookups, 0); o != nil {
			g.HopsMean, g.MessagesPerLookup, g.P50MS, g.P95MS, g.Success = o.HopsMean, o.MessagesMean, o.P50MS, o.P95MS, o.Success
		}
		if s.nodeTime > 0 {
			g.MessagesPerNodeMin = result.V(max(0, float64(s.messages)-float64(s.opMessages)) / s.nodeTime.Minutes())
			g.IdleBytesPerS = result.V(max(0, float64(s.bytes)-float64(s.opBytes)) / s.nodeTime.Seconds())
		}
		out = append(out, g)
	}
	slices.SortStableFunc(out, func(a, b result.Growth) int { return cmp.Compare(a.Nodes, b.Nodes) })
	return out
}
