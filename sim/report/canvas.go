package report

// point is a place on a canvas; y grows downwards. One unit is a CSS pixel when the chart is shown at its natural width.
type point struct{ x, y float64 }

// ink is what something is drawn in. A canvas knows what colour that is, light or dark.
type ink int

const (
	inkText ink = iota
	inkMuted
	inkGrid
	inkCurve // inkCurve+i is the i-th curve
)

// curves is how many inks there are for curves; after that they begin again.
const curves = 7

// stroke is how a line is drawn.
type stroke struct {
	ink   ink
	width float64
	dash  []float64 // lengths of lines and gaps; nil: unbroken
}

// canvas is something to draw on.
type canvas interface {
	line(s stroke, points ...point)
	polygon(i ink, alpha float64, points ...point)
	dot(i ink, at point, radius float64)
	text(i ink, at point, anchor anchor, size float64, s string)
}

// anchor is which part of a text stands at its point, on its baseline.
type anchor int

const (
	atStart anchor = iota
	atMiddle
	atEnd
)
