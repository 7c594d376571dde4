// Package report shows a simulation's result: in sentences and a table for the terminal, as CSV, as one HTML file that
// needs nothing from elsewhere, and as PNGs.
//
// It reads a result.Run and draws only what is in there: a chart whose figures were not measured does not appear. Charts are
// made once (charts.go), laid out once (layout.go) and drawn on a canvas; the SVG in the HTML and the PNG are two canvases,
// so they show the same. The HTML has no script, loads nothing, follows the reader's choice of light or dark, and is legible
// on a phone; colours are never the only thing that tells two curves apart.
package report
