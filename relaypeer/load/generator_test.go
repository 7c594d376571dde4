//go:build linux

package load

import (
	"testing"
	"time"
)

func TestHistogram(t *testing.T) {
	var h histogram
	for v := range int64(100_000) {
		h.add(v * 1000)
	}
	for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 0.999} {
		want := q * float64(100*time.Millisecond)
		if got := float64(h.quantile(q)); got < want || got > want*1.07 {
			t.Errorf("quantile %g: %v, want %v", q, time.Duration(got), time.Duration(want))
		}
	}
	if got := h.quantile(1); got != 99_999_000 {
		t.Errorf("the largest: %v", got)
	}
	for v := int64(0); v < 1<<40; v = v*9/8 + 1 { // the classes follow one another
		if class(v) > class(v+1) || class(v+1)-class(v) > 1 {
			t.Fatalf("%d is in class %d, %d in class %d", v, class(v), v+1, class(v+1))
		}
	}
	var one histogram
	one.add(-5)
	one.add(7)
	if one.quantile(0.5) != 7 || one.quantile(0) != 0 {
		t.Errorf("%v %v", one.quantile(0), one.quantile(0.5))
	}
}
