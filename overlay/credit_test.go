package overlay

import (
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
)

// lied is a walk in which one of two nodes that have answered, the liar, has named 20 nodes next to the key that are not
// there, and the other one 20 that are.
func lied() (w *walk, liar, honest *candidate, invented, true_ []*candidate) {
	const k = 20
	w = &walk{o: &Peer{doc: &Document{DHT: DHTParams{BucketSize: k}}}}
	put := func(name string, by ...*candidate) *candidate {
		c := &candidate{id: peer.ID(name)}
		for _, b := range by {
			c.named(b)
		}
		w.list = append(w.list, c) // in the order of their distance: those that the liar names come first
		return c
	}
	liar, honest = &candidate{id: "liar"}, &candidate{id: "honest"}
	for range k {
		invented = append(invented, put("invented", liar))
	}
	for range k {
		true_ = append(true_, put("true", honest))
	}
	w.list = append(w.list, liar, honest)
	liar.become(answered)
	honest.become(answered)
	w.answered = 2
	return w, liar, honest, invented, true_
}

func TestCreditOfOneWhoNamesNobody(t *testing.T) {
	w, liar, _, invented, true_ := lied()
	var asked []*candidate
	for range 6 {
		c := w.nextFresh()
		if c == nil {
			break
		}
		c.become(asking)
		asked = append(asked, c)
	}
	if n := len(asked); n != 4 || !slices.Equal(asked[:2], invented[:2]) || !slices.Equal(asked[2:], true_[:2]) {
		t.Fatalf("asked %d nodes, want two of those that each has named: %v", n, asked)
	}
	if w.settled() {
		t.Error("settled while some are asked")
	}
	true_[0].become(answered)
	w.answered++
	if c := w.nextFresh(); c != true_[2] {
		t.Error("who has named one that answers is not trusted with more")
	}
	invented[0].become(slow)
	if liar.credit.lost() {
		t.Error("one that does not answer is no proof")
	}
	invented[1].become(slow)
	for _, c := range true_ {
		if c.state != answered {
			if w.settled() {
				t.Error("settled before all were asked")
			}
			if got := w.nextFresh(); got != c && c.state == fresh {
				t.Fatal("not the next that is true")
			}
			c.become(asking)
			c.become(answered)
			w.answered++
		}
	}
	if c := w.nextFresh(); c != nil {
		t.Error("a node is asked that only a liar has named")
	}
	if !w.settled() {
		t.Error("the walk waits for nodes that only a liar has named")
	}

	// One that somebody else has named as well is asked after all.
	w.list[2].named(true_[3])
	if w.nextFresh() != w.list[2] || w.settled() {
		t.Error("what others have named too is left out")
	}
}

// TestCreditOfTheUnlucky: somebody whose first two were dead is believed again when others of his answer, and where nobody
// else is left, all are asked.
func TestCreditOfTheUnlucky(t *testing.T) {
	w, liar, _, invented, true_ := lied()
	for _, c := range true_ {
		c.become(failed)
	}
	invented[0].become(slow)
	invented[1].become(slow)
	if !liar.credit.lost() || w.nextFresh() != invented[2] || w.settled() {
		t.Error("nobody is left, and yet some are not asked")
	}
	invented[1].become(answered)
	if liar.credit.lost() || w.nextFresh() != invented[2] {
		t.Error("not believed again")
	}
	if c := liar.credit; c != (credit{good: 1, bad: 1}) {
		t.Errorf("booked %+v", c)
	}
}
