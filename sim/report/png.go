package report

import (
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"

	"p2psip/sim/result"
)

// pngScale is how many pixels there are for a unit of the layout: legible on paper and on a dense screen.
const pngScale = 3

// typeface is the font of the PNGs, whose widths the layout uses for both canvases.
var typeface = sync.OnceValue(func() *opentype.Font {
	f, err := opentype.Parse(goregular.TTF)
	if err != nil {
		panic(err) // the font is part of the program
	}
	return f
})

// face gives the font at a size in pixels.
func face(size float64) font.Face {
	f, err := opentype.NewFace(typeface(), &opentype.FaceOptions{Size: size, DPI: 72, Hinting: font.HintingNone})
	if err != nil {
		panic(err) // only for sizes nobody asks for
	}
	return f
}

// fontMargin is how much wider the reader's font may be than the PNG's.
const fontMargin = 1.13

// textWidth is the room to be kept for a text at a size.
func textWidth(s string, size float64) float64 {
	f := face(size)
	defer f.Close()
	return float64(font.MeasureString(f, s)) / 64 * fontMargin
}

// pngInks are the colours on white, those of the HTML's light side.
var pngInks = [...]color.NRGBA{
	inkText: {0x1b, 0x1f, 0x24, 255}, inkMuted: {0x57, 0x60, 0x6a, 255}, inkGrid: {0xdd, 0xe1, 0xe6, 255},
	inkCurve + 0: {0x00, 0x68, 0xa8, 255}, inkCurve + 1: {0xc0, 0x4f, 0x00, 255}, inkCurve + 2: {0x00, 0x7f, 0x5c, 255},
	inkCurve + 3: {0xa3, 0x3b, 0x7d, 255}, inkCurve + 4: {0x7a, 0x62, 0x00, 255}, inkCurve + 5: {0x5b, 0x63, 0x6b, 255},
	inkCurve + 6: {0x8a, 0x4b, 0x2a, 255},
}

func pngInk(i ink) color.NRGBA {
	if i >= inkCurve {
		i = inkCurve + (i-inkCurve)%curves
	}
	return pngInks[i]
}

// pngCanvas draws on an image.
type pngCanvas struct {
	img   *image.RGBA
	ras   *vector.Rasterizer
	paths [][]point // to be painted together, in pixels
}

var _ canvas = (*pngCanvas)(nil)

func newPNGCanvas(width, height float64) *pngCanvas {
	w, h := int(math.Ceil(width*pngScale)), int(math.Ceil(height*pngScale))
	c := &pngCanvas{img: image.NewRGBA(image.Rect(0, 0, w, h)), ras: new(vector.Rasterizer)}
	draw.Draw(c.img, c.img.Bounds(), image.White, image.Point{}, draw.Src)
	return c
}

// path adds a closed path. All paths of a line turn the same way, so that where they lie upon each other nothing is lost.
func (c *pngCanvas) path(points ...point) {
	scaled := make([]point, len(points))
	for i, p := range points {
		scaled[i] = point{p.x * pngScale, p.y * pngScale}
	}
	c.paths = append(c.paths, scaled)
}

// paint fills the paths. Only the part of the picture that they cover is gone through.
func (c *pngCanvas) paint(i ink, alpha float64) {
	lo, hi := point{math.Inf(1), math.Inf(1)}, point{math.Inf(-1), math.Inf(-1)}
	for _, path := range c.paths {
		for _, p := range path {
			lo, hi = point{min(lo.x, p.x), min(lo.y, p.y)}, point{max(hi.x, p.x), max(hi.y, p.y)}
		}
	}
	box := image.Rect(int(math.Floor(lo.x)), int(math.Floor(lo.y)), int(math.Ceil(hi.x))+1, int(math.Ceil(hi.y))+1)
	if box = box.Intersect(c.img.Bounds()); len(c.paths) == 0 || box.Empty() {
		c.paths = nil
		return
	}
	c.ras.Reset(box.Dx(), box.Dy())
	for _, path := range c.paths {
		for j, p := range path {
			x, y := float32(p.x-float64(box.Min.X)), float32(p.y-float64(box.Min.Y))
			if j == 0 {
				c.ras.MoveTo(x, y)
			} else {
				c.ras.LineTo(x, y)
			}
		}
		c.ras.ClosePath()
	}
	c.paths = nil
	col := pngInk(i)
	col.A = uint8(alpha*255 + 0.5)
	c.ras.Draw(c.img, box, image.NewUniform(col), image.Point{})
}

func (c *pngCanvas) line(s stroke, points ...point) {
	for _, piece := range dashed(points, s.dash) {
		for i, p := range piece {
			if s.width > 1 {
				c.path(circle(p, s.width/2)...)
			}
			if i == 0 {
				continue
			}
			q := piece[i-1]
			dx, dy := p.x-q.x, p.y-q.y
			length := math.Hypot(dx, dy)
			if length == 0 {
				continue
			}
			nx, ny := -dy/length*s.width/2, dx/length*s.width/2
			c.path(point{q.x - nx, q.y - ny}, point{p.x - nx, p.y - ny}, point{p.x + nx, p.y + ny}, point{q.x + nx, q.y + ny})
		}
	}
	c.paint(s.ink, 1)
}

// circle gives a polygon that turns like the pieces of a line.
func circle(at point, r float64) []point {
	const n = 16
	out := make([]point, n)
	for i := range out {
		sin, cos := math.Sincos(2 * math.Pi * float64(i) / n)
		out[i] = point{at.x + r*cos, at.y + r*sin}
	}
	return out
}

// dashed cuts a line into its dashes.
func dashed(points []point, dash []float64) [][]point {
	var period float64
	for _, d := range dash {
		period += d
	}
	if period <= 0 || len(points) < 2 {
		return [][]point{points}
	}
	var out [][]point
	piece := []point{points[0]}
	at, left := 0, dash[0]
	for i := 1; i < len(points); i++ {
		p, q := points[i-1], points[i]
		length := math.Hypot(q.x-p.x, q.y-p.y)
		for passed := 0.0; passed < length; {
			step := min(left, length-passed)
			passed += step
			left -= step
			here := point{p.x + (q.x-p.x)*passed/length, p.y + (q.y-p.y)*passed/length}
			if at%2 == 0 {
				piece = append(piece, here)
			}
			if left <= 1e-9 {
				if at%2 == 0 {
					out = append(out, piece)
				}
				at = (at + 1) % len(dash)
				left = dash[at]
				piece = []point{here}
			}
		}
	}
	if at%2 == 0 && len(piece) > 1 {
		out = append(out, piece)
	}
	return out
}

func (c *pngCanvas) polygon(i ink, alpha float64, points ...point) {
	c.path(points...)
	c.paint(i, alpha)
}

func (c *pngCanvas) dot(i ink, at point, radius float64) {
	c.path(circle(at, radius)...)
	c.paint(i, 1)
}

func (c *pngCanvas) text(i ink, at point, a anchor, size float64, s string) {
	f := face(size * pngScale)
	defer f.Close()
	d := font.Drawer{Dst: c.img, Src: image.White, Face: f}
	x := fixed.Int26_6(at.x * pngScale * 64)
	switch a {
	case atMiddle:
		x -= d.MeasureString(s) / 2
	case atEnd:
		x -= d.MeasureString(s)
	}
	y := fixed.Int26_6(at.y * pngScale * 64)
	for _, by := range [...][2]fixed.Int26_6{{-1, 0}, {1, 0}, {0, -1}, {0, 1}, {-1, -1}, {-1, 1}, {1, -1}, {1, 1}} { // a rim, so that it can be read on a curve
		d.Dot = fixed.Point26_6{X: x + by[0]*4*64, Y: y + by[1]*4*64}
		d.DrawString(s)
	}
	d.Src, d.Dot = image.NewUniform(pngInk(i)), fixed.Point26_6{X: x, Y: y}
	d.DrawString(s)
}

// PNG writes the chart as a picture with its title, on white.
func (c Chart) PNG(w io.Writer) error {
	l := newLayout(c, true)
	canvas := newPNGCanvas(l.width, l.height)
	l.draw(canvas)
	return png.Encode(w, canvas.img)
}

// WritePNGs writes each chart of a run into a directory, which is made if need be, and gives the files' names.
func WritePNGs(dir string, r *result.Run) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the directory for the pictures: %w", err)
	}
	var names []string
	for _, c := range Charts(r) {
		name := filepath.Join(dir, c.ID+".png")
		if err := writePNG(name, c); err != nil {
			return names, fmt.Errorf("drawing %s: %w", name, err)
		}
		names = append(names, name)
	}
	return names, nil
}

func writePNG(name string, c Chart) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := c.PNG(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
