package overlay

import (
	"context"
	"sync/atomic"
)

// Cost is what an operation has cost the network, as far as this node saw it: what it sent and what came back. Answers that
// came after the operation's end are not in it.
type Cost struct {
	Messages int // requests sent and answers received
	Bytes    int // of those, without what carries them
	Dials    int // connections that had to be made first, or were tried
}

// tally adds up the cost of an operation under way. The sender finds it in the context of each request.
type tally struct{ messages, bytes, dials atomic.Int64 }

type tallyKey struct{}

// withTally lets everything that is sent under the context be added to t.
func withTally(ctx context.Context, t *tally) context.Context {
	return context.WithValue(ctx, tallyKey{}, t)
}

// tallyOf gives the tally of a context; nil, which counts nothing, if it has none.
func tallyOf(ctx context.Context) *tally {
	t, _ := ctx.Value(tallyKey{}).(*tally)
	return t
}

func (t *tally) message(bytes int) {
	if t != nil {
		t.messages.Add(1)
		t.bytes.Add(int64(bytes))
	}
}

func (t *tally) dial() {
	if t != nil {
		t.dials.Add(1)
	}
}

func (t *tally) cost() Cost {
	if t == nil {
		return Cost{}
	}
	return Cost{Messages: int(t.messages.Load()), Bytes: int(t.bytes.Load()), Dials: int(t.dials.Load())}
}
