package phonetest

import "testing"

func TestNeed(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv(RequirePeers, "")
	skipped := false
	t.Run("missing", func(t *testing.T) {
		defer func() { skipped = t.Skipped() }()
		Need(t, "sipp")
	})
	if !skipped {
		t.Error("a missing program does not skip the test")
	}
}
