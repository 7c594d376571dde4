package report

import "math"

// Sizes of a chart, in units of the canvas. The width is that of a phone, so that letters keep their size there; wide
// screens show several charts side by side.
const (
	chartWidth = 400
	plotHeight = 190
	letter     = 11.5
	lineHeight = 17
)

// layout is a chart with everything in its place.
type layout struct {
	chart         Chart
	titled        bool
	width, height float64
	legend        []legendEntry

	left, right, top, bottom float64 // the plot's edges
	xlo, xhi, ylo, yhi       float64
}

type legendEntry struct {
	at     point
	series int
}

// newLayout places a chart, with its title on top or without.
func newLayout(c Chart, titled bool) *layout {
	l := &layout{chart: c, titled: titled, width: chartWidth, right: chartWidth - 14, top: 6}
	if titled {
		l.top += 26
	}
	if len(c.Bars) > 0 {
		l.placeBars()
		return l
	}
	x, y := 4.0, l.top+letter
	for i, s := range c.Series {
		if len(c.Series) == 1 && s.Style != baseline {
			break // the title says it
		}
		w := 26 + textWidth(s.Name, letter) + 12
		if x > 4 && x+w > chartWidth {
			x, y = 4, y+lineHeight
		}
		l.legend = append(l.legend, legendEntry{point{x, y}, i})
		x += w
	}
	if len(l.legend) > 0 {
		l.top = y + 8
	}
	l.top += lineHeight + 4 // the label of the y axis
	l.bottom = l.top + plotHeight
	l.height = l.bottom + 2*lineHeight + 8

	var xs, ys []float64
	for _, s := range c.Series {
		for _, p := range s.Points {
			xs, ys = append(xs, p.x), append(ys, p.y)
		}
	}
	for _, v := range c.Levels {
		ys = append(ys, v.At)
	}
	l.xlo, l.xhi = c.X.ends(xs)
	l.ylo, l.yhi = c.Y.ends(ys)
	widest := 0.0
	for _, v := range c.Y.ticks(l.ylo, l.yhi) {
		widest = max(widest, textWidth(c.Y.Unit.write(v), letter))
	}
	l.left = widest + 12
	return l
}

// fraction gives where a value lies between the ends of an axis, 0 to 1.
func fraction(a Axis, v, lo, hi float64) float64 {
	if a.Log {
		v, lo, hi = math.Log(max(v, lo)), math.Log(lo), math.Log(hi)
	}
	return min(1, max(0, (v-lo)/(hi-lo)))
}

func (l *layout) x(v float64) float64 {
	return l.left + fraction(l.chart.X, v, l.xlo, l.xhi)*(l.right-l.left)
}

func (l *layout) y(v float64) float64 {
	return l.bottom - fraction(l.chart.Y, v, l.ylo, l.yhi)*(l.bottom-l.top)
}

func (l *layout) draw(c canvas) {
	if l.titled {
		c.text(inkText, point{4, 20}, atStart, 14, l.chart.Title)
	}
	if len(l.chart.Bars) > 0 {
		l.drawBars(c)
		return
	}
	l.drawAxes(c)
	for i, s := range l.chart.Series {
		l.drawSeries(c, inkCurve+ink(i), s)
	}
	l.drawLevels(c)
	l.drawMarks(c)
	for _, x := range l.chart.rug {
		c.line(stroke{ink: inkMuted, width: 0.5}, point{l.x(x), l.bottom}, point{l.x(x), l.bottom + 4})
	}
	for _, e := range l.legend {
		s := l.chart.Series[e.series]
		line := lineOf(inkCurve+ink(e.series), s.Style)
		c.line(line, point{e.at.x, e.at.y - 4}, point{e.at.x + 20, e.at.y - 4})
		if s.Style == dotted {
			c.dot(line.ink, point{e.at.x + 10, e.at.y - 4}, 3)
		}
		c.text(inkText, point{e.at.x + 26, e.at.y}, atStart, letter, s.Name)
	}
}

func (l *layout) drawAxes(c canvas) {
	a := l.chart
	c.text(inkMuted, point{4, l.top - 12}, atStart, letter, a.Y.Label)
	for _, v := range a.Y.ticks(l.ylo, l.yhi) {
		y := l.y(v)
		c.line(stroke{ink: inkGrid, width: 1}, point{l.left, y}, point{l.right, y})
		c.text(inkMuted, point{l.left - 6, y + 4}, atEnd, letter, a.Y.Unit.write(v))
	}
	c.line(stroke{ink: inkMuted, width: 1}, point{l.left, l.bottom}, point{l.right, l.bottom})
	free := 0.0
	for _, v := range a.X.ticks(l.xlo, l.xhi) {
		x := l.x(v)
		c.line(stroke{ink: inkMuted, width: 1}, point{x, l.bottom}, point{x, l.bottom + 4})
		s := a.X.Unit.write(v)
		w := textWidth(s, letter)
		mid := min(max(x, w/2), l.width-w/2-1)
		if mid-w/2 < free {
			continue // no room; the stroke stays
		}
		free = mid + w/2 + 6
		c.text(inkMuted, point{mid, l.bottom + lineHeight}, atMiddle, letter, s)
	}
	c.text(inkMuted, point{(l.left + l.right) / 2, l.bottom + 2*lineHeight}, atMiddle, letter, a.X.Label)
}

// lineOf gives each curve its own pattern, so that colour is not all there is.
func lineOf(i ink, s style) stroke {
	if s == baseline {
		return stroke{i, 1.6, [][]float64{{6, 4}, {2, 3}, {8, 3, 2, 3}}[int(i-inkCurve)%3]}
	}
	return stroke{i, 2, [][]float64{nil, {12, 2}, {5, 2}, {14, 2, 2, 2}, {3, 1.5}, nil, {9, 2, 4, 2}}[int(i-inkCurve)%curves]}
}

func (l *layout) drawSeries(c canvas, i ink, s Series) {
	var line []point
	for _, p := range s.Points {
		if math.IsNaN(p.x) || math.IsNaN(p.y) {
			continue
		}
		line = append(line, point{l.x(p.x), l.y(p.y)})
	}
	if len(line) == 0 {
		return
	}
	if s.Style == filled {
		area := append([]point{{line[0].x, l.bottom}}, line...)
		c.polygon(i, 0.25, append(area, point{line[len(line)-1].x, l.bottom})...)
	}
	c.line(lineOf(i, s.Style), line...)
	if s.Style == dotted || len(line) == 1 {
		for _, p := range line {
			c.dot(i, p, 3)
		}
	}
}

func (l *layout) drawLevels(c canvas) {
	for _, v := range l.chart.Levels {
		y := l.y(v.At)
		c.line(stroke{inkText, 1, []float64{4, 3}}, point{l.left, y}, point{l.right, y})
		up := y - 4
		if up < l.top+letter {
			up = y + letter + 2
		}
		if v.AtEnd {
			c.text(inkText, point{l.right - 2, up}, atEnd, letter, v.Text)
		} else {
			c.text(inkText, point{l.left + 4, up}, atStart, letter, v.Text)
		}
	}
}

func (l *layout) drawMarks(c canvas) {
	for n, m := range l.chart.Marks {
		x := l.x(m.At)
		c.line(stroke{inkText, 1, []float64{2, 2}}, point{x, l.top}, point{x, l.bottom})
		a, at := atStart, x+4
		if x > (l.left+l.right)/2 {
			a, at = atEnd, x-4
		}
		c.text(inkText, point{at, l.bottom - 8 - float64(n%4)*lineHeight}, a, letter, m.Text)
	}
}

// Bars.

const barStep = 30

func (l *layout) placeBars() {
	l.top += 4
	l.bottom = l.top + barStep*float64(len(l.chart.Bars))
	l.height = l.bottom + 2*lineHeight + 8
	var values []float64
	widest := 0.0
	for _, b := range l.chart.Bars {
		values = append(values, b.Value)
		widest = max(widest, textWidth(b.Text, letter))
		l.left = max(l.left, textWidth(b.Name, letter)+12)
	}
	for _, v := range l.chart.Levels {
		values = append(values, v.At)
	}
	l.left = min(l.left, chartWidth*0.45)
	l.right -= widest // the longest bar has its number beside it as well
	l.xlo, l.xhi = l.chart.X.ends(values)
	if !l.chart.X.Log {
		l.xlo = 0
	}
	if len(l.chart.Levels) > 0 {
		l.height += lineHeight
		l.top += lineHeight
		l.bottom += lineHeight
	}
}

func (l *layout) drawBars(c canvas) {
	for _, v := range l.chart.X.ticks(l.xlo, l.xhi) {
		x := l.x(v)
		c.line(stroke{ink: inkGrid, width: 1}, point{x, l.top}, point{x, l.bottom})
		c.text(inkMuted, point{x, l.bottom + lineHeight}, atMiddle, letter, l.chart.X.Unit.write(v))
	}
	for i, b := range l.chart.Bars {
		y, x := l.top+barStep*float64(i), l.endOf(b)
		c.polygon(inkCurve+ink(b.Ink), 0.85, point{l.left, y + 5}, point{x, y + 5}, point{x, y + 25}, point{l.left, y + 25})
	}
	c.line(stroke{ink: inkMuted, width: 1}, point{l.left, l.top}, point{l.left, l.bottom})
	for _, v := range l.chart.Levels {
		x := l.x(v.At)
		c.line(stroke{inkText, 1, []float64{4, 3}}, point{x, l.top}, point{x, l.bottom})
		w := textWidth(v.Text, letter)
		c.text(inkText, point{min(max(x, w/2), l.width-w/2), l.top - 5}, atMiddle, letter, v.Text)
	}
	for i, b := range l.chart.Bars {
		y := l.top + barStep*float64(i)
		c.text(inkText, point{l.left - 8, y + 19}, atEnd, letter, b.Name)
		c.text(inkText, point{l.endOf(b) + 6, y + 19}, atStart, letter, b.Text)
	}
	c.text(inkMuted, point{(l.left + l.right) / 2, l.bottom + 2*lineHeight}, atMiddle, letter, l.chart.X.Label)
}

// endOf gives where a bar ends; the smallest can still be seen.
func (l *layout) endOf(b Bar) float64 { return max(l.x(b.Value), l.left+2) }
