package report

import (
	"fmt"
	"html"
	"strconv"
	"strings"
)

// svgCanvas draws SVG elements; their colours are CSS classes of the page around.
type svgCanvas struct{ b strings.Builder }

var _ canvas = (*svgCanvas)(nil)

func coordinate(v float64) string {
	return strconv.FormatFloat(float64(int64(v*10+0.5))/10, 'f', -1, 64)
}

func class(i ink) string {
	switch i {
	case inkText:
		return "t"
	case inkMuted:
		return "m"
	case inkGrid:
		return "g"
	}
	return "c" + strconv.Itoa(int(i-inkCurve)%curves)
}

func (c *svgCanvas) points(points []point) {
	c.b.WriteString(` points="`)
	for i, p := range points {
		if i > 0 {
			c.b.WriteByte(' ')
		}
		c.b.WriteString(coordinate(p.x) + "," + coordinate(p.y))
	}
	c.b.WriteByte('"')
}

func (c *svgCanvas) line(s stroke, points ...point) {
	if len(points) == 0 {
		return
	}
	fmt.Fprintf(&c.b, `<polyline class="l %s" stroke-width="%s"`, class(s.ink), coordinate(s.width))
	if len(s.dash) > 0 {
		parts := make([]string, len(s.dash))
		for i, d := range s.dash {
			parts[i] = coordinate(d)
		}
		fmt.Fprintf(&c.b, ` stroke-dasharray="%s"`, strings.Join(parts, " "))
	}
	c.points(points)
	c.b.WriteString("/>")
}

func (c *svgCanvas) polygon(i ink, alpha float64, points ...point) {
	fmt.Fprintf(&c.b, `<polygon class="f %s" fill-opacity="%s"`, class(i), strconv.FormatFloat(alpha, 'f', 2, 64))
	c.points(points)
	c.b.WriteString("/>")
}

func (c *svgCanvas) dot(i ink, at point, radius float64) {
	fmt.Fprintf(&c.b, `<circle class="f %s" cx="%s" cy="%s" r="%s"/>`, class(i), coordinate(at.x), coordinate(at.y), coordinate(radius))
}

func (c *svgCanvas) text(i ink, at point, a anchor, size float64, s string) {
	fmt.Fprintf(&c.b, `<text class="f %s" x="%s" y="%s" font-size="%s" text-anchor="%s">%s</text>`, class(i),
		coordinate(at.x), coordinate(at.y), coordinate(size), [...]string{"start", "middle", "end"}[a], html.EscapeString(s))
}

// SVG gives the chart as an SVG element with a title and a description for those who do not see it. Its colours come from the
// page's style sheet.
func (c Chart) SVG() string {
	l := newLayout(c, false)
	var canvas svgCanvas
	l.draw(&canvas)
	return fmt.Sprintf(`<svg role="img" viewBox="0 0 %s %s" aria-labelledby="%s-t %s-d"><title id="%s-t">%s</title><desc id="%s-d">%s</desc>%s</svg>`,
		coordinate(l.width), coordinate(l.height), c.ID, c.ID, c.ID, html.EscapeString(c.Title), c.ID, html.EscapeString(c.Describe()), canvas.b.String())
}
