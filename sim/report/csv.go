package report

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"

	"p2psip/sim/result"
)

// CSV writes everything a run has in one long table, for spreadsheets and statistics programs. Its columns:
//
//	table  measure, cdf, over_time, alive, node, growth, hostile, hotkey or baseline
//	key    which figure or curve: "lookup.p50_ms"
//	x      milliseconds of a cdf, seconds over time, place in the key space, number of nodes, share of hostile ones; empty for a measure
//	value  the figure; of a cdf the share that took at most so long
//	low, high  the 95 % confidence interval, where there are several seeds
//
// What was not measured has no line.
func CSV(w io.Writer, r *result.Run) error {
	c := &table{w: csv.NewWriter(w)}
	c.w.Write([]string{"table", "key", "x", "value", "low", "high"})
	for _, m := range r.Measures() {
		iv, _ := r.Interval(m.Key)
		c.row("measure", m.Key, result.Value{}, m.Value, iv.Low, iv.High)
	}
	for _, o := range []struct {
		key string
		op  *result.Operation
	}{{"lookup", r.Lookup}, {"publish", r.Publish}, {"unknown", r.Unknown}, {"connect", r.Connect}, {"calls", callsOf(r)}} {
		if o.op == nil {
			continue
		}
		c.delays(o.key, o.op.Delays)
		for _, b := range o.op.OverTime {
			at := result.V(b.AtS)
			c.row("over_time", o.key+".count", at, result.V(float64(b.Count)))
			c.row("over_time", o.key+".success", at, result.Share(b.OK, b.Count))
			c.row("over_time", o.key+".p95_ms", at, b.P95MS)
		}
	}
	if s := r.Stock; s != nil {
		for _, o := range []struct {
			key string
			op  *result.Operation
		}{{"stock.lookup", s.Lookup}, {"stock.publish", s.Publish}, {"stock.unknown", s.Unknown}} {
			if o.op != nil {
				c.delays(o.key, o.op.Delays)
			}
		}
	}
	if r.Direct != nil {
		c.delays("direct", *r.Direct)
	}
	for _, p := range r.Alive {
		c.row("alive", "nodes", result.V(p.AtS), result.V(p.Value))
	}
	if p := r.PerNode; p != nil {
		for _, row := range []struct {
			key    string
			values result.Numbers
		}{{"requests", p.Requests}, {"records", p.Records}, {"bytes", p.Bytes}, {"messages", p.Messages}} {
			for i, v := range row.values {
				x := result.Value{}
				if i < len(p.Position) {
					x = result.V(p.Position[i])
				}
				c.row("node", row.key, x, result.V(v))
			}
		}
	}
	for _, g := range r.Growth {
		n := result.V(float64(g.Nodes))
		c.row("growth", "log2_nodes", n, g.Log2)
		c.row("growth", "hops_mean", n, g.HopsMean)
		c.row("growth", "messages_per_lookup", n, g.MessagesPerLookup)
		c.row("growth", "messages_per_node_min", n, g.MessagesPerNodeMin)
		c.row("growth", "idle_bytes_per_s", n, g.IdleBytesPerS)
		c.row("growth", "p50_ms", n, g.P50MS)
		c.row("growth", "p95_ms", n, g.P95MS)
		c.row("growth", "success", n, g.Success)
		c.row("growth", "heap_per_node", n, g.HeapPerNode)
	}
	if h := r.Hostile; h != nil {
		for _, p := range h.Sweep {
			for _, y := range []struct {
				key   string
				value result.Value
			}{
				{"lookup_success", p.LookupSuccess}, {"lookup_p50_ms", p.LookupP50MS}, {"lookup_p95_ms", p.LookupP95MS},
				{"lookup_messages", p.LookupMessages}, {"publish_success", p.PublishSuccess}, {"publish_p95_ms", p.PublishP95MS},
				{"unknown_success", p.UnknownSuccess}, {"unknown_p95_ms", p.UnknownP95MS}, {"fresh", p.Fresh},
				{"victim_success", p.VictimSuccess}, {"victim_p95_ms", p.VictimP95MS},
				{"wrong", result.V(float64(p.Wrong))}, {"refused", result.V(float64(p.Refused))},
			} {
				c.row("hostile", y.key, p.Share, y.value)
			}
		}
	}
	if h := r.HotKey; h != nil {
		for _, y := range h.Ways {
			c.row("hotkey", y.Name+".max", result.Value{}, y.Max)
			c.row("hotkey", y.Name+".median", result.Value{}, y.Median)
			c.row("hotkey", y.Name+".gini", result.Value{}, y.Gini)
			c.row("hotkey", y.Name+".success", result.Value{}, y.Success)
		}
	}
	for _, b := range r.Limits {
		c.row("baseline", b.Measure+": "+b.Name, result.Value{}, b.Value)
	}
	c.w.Flush()
	if err := c.w.Error(); err != nil {
		return fmt.Errorf("writing CSV: %w", err)
	}
	return nil
}

// callsOf gives the calls in the form of an operation.
func callsOf(r *result.Run) *result.Operation {
	if k := r.Calls; k != nil {
		return &result.Operation{
			Count: k.Count, OK: k.OK, Success: k.Success, P50MS: k.SetupP50MS, P95MS: k.SetupP95MS, P99MS: k.SetupP99MS,
			Delays: k.Delays, OverTime: k.OverTime,
		}
	}
	return nil
}

type table struct{ w *csv.Writer }

func (t *table) row(table, key string, x, value result.Value, interval ...result.Value) {
	if !value.Known() {
		return
	}
	cells := []string{table, key, cell(x), cell(value), "", ""}
	for i, v := range interval {
		cells[4+i] = cell(v)
	}
	t.w.Write(cells)
}

func (t *table) delays(key string, d result.Delays) {
	for i, ms := range d.MS {
		t.row("cdf", key, result.V(ms), result.V(float64(i+1)/float64(len(d.MS))))
	}
}

func cell(v result.Value) string {
	f, ok := v.Get()
	if !ok {
		return ""
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}
