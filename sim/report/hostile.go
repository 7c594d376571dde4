package report

import (
	"fmt"
	"slices"

	"p2psip/sim/result"
)

// sweep makes a chart over the share of hostile nodes.
func sweep(r *result.Run, c Chart, rows ...sweepRow) (Chart, bool) {
	c.X = Axis{Label: "hostile nodes, of all", Unit: percents, Low: at(0)}
	h := r.Hostile
	if h == nil || len(h.Sweep) < 2 {
		return c, false
	}
	for _, row := range rows {
		var points []point
		for _, p := range h.Sweep {
			if v, ok := row.value(p).Get(); ok {
				points = append(points, point{p.Share.Or(0), v})
			}
		}
		if len(points) > 0 {
			c.Series = append(c.Series, Series{Name: row.name, Points: points, Style: dotted})
		}
	}
	return c, len(c.Series) > 0
}

type sweepRow struct {
	name  string
	value func(result.HostileShare) result.Value
}

func hostileSuccess(r *result.Run) (Chart, bool) {
	c, ok := sweep(r, Chart{
		ID: "hostile-success", Title: "Success among hostile nodes",
		Caption: "What honest users still achieve when that share of the nodes is hostile.",
		Y:       Axis{Label: "succeeded", Unit: percents, High: at(1)},
	},
		sweepRow{"find a user", func(p result.HostileShare) result.Value { return p.LookupSuccess }},
		sweepRow{"register", func(p result.HostileShare) result.Value { return p.PublishSuccess }},
		sweepRow{"unknown user", func(p result.HostileShare) result.Value { return p.UnknownSuccess }},
		sweepRow{"newest record", func(p result.HostileShare) result.Value { return p.Fresh }},
		sweepRow{"victim", func(p result.HostileShare) result.Value { return p.VictimSuccess }})
	if !ok {
		return c, false
	}
	worst := 1.0
	for _, s := range c.Series {
		for _, p := range s.Points {
			worst = min(worst, p.y)
		}
	}
	c.Y.Low = at(max(0, min(0.99, worst-0.1*(1-worst))))
	wrong := 0
	for _, p := range r.Hostile.Sweep {
		wrong += p.Wrong
	}
	c.Finding = "No lookup accepted a record that its owner had not signed."
	if wrong > 0 {
		c.Finding = fmt.Sprintf("%s accepted a record that its owner had not signed.", capital(count(wrong, "lookup")))
	}
	return c, true
}

func hostileDelay(r *result.Run) (Chart, bool) {
	return sweep(r, Chart{
		ID: "hostile-delay", Title: "Delay among hostile nodes",
		Caption: "95 % of what honest users tried was settled within this, of what succeeded.",
		Y:       Axis{Label: "95 % within", Unit: millis, Low: at(0)},
	},
		sweepRow{"find a user", func(p result.HostileShare) result.Value { return p.LookupP95MS }},
		sweepRow{"register", func(p result.HostileShare) result.Value { return p.PublishP95MS }},
		sweepRow{"unknown user", func(p result.HostileShare) result.Value { return p.UnknownP95MS }},
		sweepRow{"victim", func(p result.HostileShare) result.Value { return p.VictimP95MS }})
}

// hostileHead names the columns of hostileRows.
var hostileHead = []string{"hostile", "found", "95 % within", "registered", "95 % within", "unknown heard", "95 % within", "newest", "victim", "wrong", "refused"}

// hostileRows is the sweep as a table.
func hostileRows(r *result.Run) [][]string {
	h := r.Hostile
	if h == nil {
		return nil
	}
	list := h.Sweep
	if len(list) == 0 {
		list = []result.HostileShare{r.HostilePoint()}
	}
	var out [][]string
	for _, p := range list {
		out = append(out, []string{
			result.Ratio.Write(p.Share), result.Ratio.Write(p.LookupSuccess), result.Millis.Write(p.LookupP95MS),
			result.Ratio.Write(p.PublishSuccess), result.Millis.Write(p.PublishP95MS),
			result.Ratio.Write(p.UnknownSuccess), result.Millis.Write(p.UnknownP95MS),
			result.Ratio.Write(p.Fresh), result.Ratio.Write(p.VictimSuccess), fmt.Sprint(p.Wrong), fmt.Sprint(p.Refused),
		})
	}
	return out
}

// hostileSentence says what hostile nodes achieved.
func hostileSentence(r *result.Run) []string {
	h := r.Hostile
	if h == nil || h.Share.Or(0) == 0 {
		return nil
	}
	var kinds []string
	for _, k := range h.Kinds {
		if k.Nodes > 0 {
			kinds = append(kinds, fmt.Sprintf("%d %s", k.Nodes, k.Name))
		}
	}
	slices.Sort(kinds)
	out := []string{fmt.Sprintf("%s of the nodes were hostile (%s) and treated %s otherwise than an honest node does.",
		result.Ratio.Write(h.Share), joined(kinds), count(h.Lies, "request"))}
	if h.Finds > 0 {
		out = append(out, fmt.Sprintf("Of %s for a role %s believed an advertisement that nobody entitled had signed.",
			counted(h.Finds, "search", "searches"), noneOr(h.WrongFinds)))
	}
	if h.Wrong > 0 {
		return append(out, fmt.Sprintf("%s of %s believed a record that its owner had not signed.", grouped(fmt.Sprint(h.Wrong)), count(h.Lookups, "lookup")))
	}
	return append(out, fmt.Sprintf("None of %s believed a record that its owner had not signed; %s were refused.", count(h.Lookups, "lookup"), count(h.Refused, "value")))
}

func joined(list []string) string {
	out := ""
	for i, s := range list {
		switch {
		case i == 0:
		case i == len(list)-1:
			out += " and "
		default:
			out += ", "
		}
		out += s
	}
	return out
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return grouped(fmt.Sprint(n)) + " " + many
}

func noneOr(n int) string {
	if n == 0 {
		return "none"
	}
	return grouped(fmt.Sprint(n))
}
