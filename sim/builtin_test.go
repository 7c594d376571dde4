package sim

import "testing"

// What a user gets with the program can be run, and is called what it calls itself.
func TestScenariosAreSound(t *testing.T) {
	if len(Scenarios()) == 0 {
		t.Fatal("none")
	}
	for _, b := range Scenarios() {
		s, err := ParseScenario(b.Text)
		if err != nil {
			t.Errorf("%s: %v", b.Name, err)
		}
		if s.Name != b.Name || b.About == "" || b.Text[:2] != "# " {
			t.Errorf("%s calls itself %s and says %q of itself", b.Name, s.Name, b.About)
		}
	}
}
