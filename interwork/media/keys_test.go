package media

import "testing"

func TestWindowTakesEachNumberOnce(t *testing.T) {
	var w window
	for _, c := range []struct {
		seq uint16
		ok  bool
	}{
		{65530, true}, {65530, false}, {65531, true}, {65535, true}, {0, true}, {65533, true}, {65533, false},
		{0, false}, {1, true}, {200, true}, {1, false}, {137, true}, {137, false}, {136, false}, {199, true}, {201, true},
	} {
		if got := w.take(c.seq); got != c.ok {
			t.Errorf("take(%d) = %v, want %v", c.seq, got, c.ok)
		}
	}
}
