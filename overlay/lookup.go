package overlay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Lookup is a search for a user under way. It hands out the first valid record as soon as one node has given it, and
// again whenever a newer or fuller one turns up, until the copies agree.
type Lookup struct {
	cancel context.CancelFunc
	done   chan struct{}
	news   chan struct{} // capacity 1: latest has changed

	mu     sync.Mutex
	latest entries     // guarded by mu
	fresh  bool        // guarded by mu: latest is to be handed out and has not been
	live   bool        // guarded by mu: latest tells of a phone that can be reached
	shown  bool        // guarded by mu: something has been handed out
	agree  int         // guarded by mu: copies that hold all of latest
	err    error       // guarded by mu: set before done is closed
	stats  LookupStats // guarded by mu
}

// LookupStats tell how a lookup went.
type LookupStats struct {
	Asked    int           // nodes asked
	Answered int           // nodes that answered in time
	Copies   int           // valid copies received
	Refused  int           // values received that were no valid record of the user
	Hops     int           // nodes passed through to the first copy, 0 if this node held it
	First    time.Duration // until the first valid record, 0 if none came
	Took     time.Duration // until the end
	Cost     Cost
}

// maxLookups bounds the searches under way in one node.
const maxLookups = 256

// ErrBusy: the node already has as many searches under way as it agreed to.
var ErrBusy = errors.New("too many lookups at a time")

// Lookup starts a search for a user. The caller must call Stop, or Next until it returns an error.
func (o *Peer) Lookup(ctx context.Context, a AOR) *Lookup {
	ctx, cancel := context.WithTimeout(ctx, o.timing.Walk)
	l := &Lookup{cancel: cancel, done: make(chan struct{}), news: make(chan struct{}, 1)}
	fail := func(err error) *Lookup {
		cancel()
		l.err = err
		close(l.done)
		return l
	}
	if a.Host() != o.doc.ID {
		return fail(fmt.Errorf("%w: %s is not in %s", ErrUnknownUser, a, o.doc.ID))
	}
	select {
	case o.lookups <- struct{}{}:
	default:
		return fail(fmt.Errorf("%w: %d", ErrBusy, maxLookups))
	}
	if !o.start(func() {
		defer func() { <-o.lookups }()
		l.run(ctx, o, a)
	}) {
		<-o.lookups
		return fail(ErrClosed)
	}
	return l
}

// Next gives the record as soon as there is one, and each time it has become newer. At the end of the search it gives
// io.EOF if it has given a record before, and otherwise why there is none: ErrUnknownUser, ErrUnreachable, ErrBusy, or
// the context's error.
func (l *Lookup) Next(ctx context.Context) (Record, error) {
	for {
		if r, ok := l.pending(); ok {
			return r, nil
		}
		select {
		case <-l.news:
		case <-l.done:
			if r, ok := l.pending(); ok {
				return r, nil
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			return Record{}, l.err
		case <-ctx.Done():
			return Record{}, ctx.Err()
		}
	}
}

func (l *Lookup) pending() (Record, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.fresh {
		return Record{}, false
	}
	l.fresh, l.shown = false, true
	return l.latest.Record(), true
}

// Stop ends the search. It may be called at any time and more than once.
func (l *Lookup) Stop() { l.cancel() }

// Stats gives the figures so far; they are final once Next has returned an error.
func (l *Lookup) Stats() LookupStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stats
}

// Signer names who signed the credential behind a node's entry, and how long that is good.
func (l *Lookup) Signer(n NodeID) (issuer string, expires time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.latest {
		if e.Node == n {
			return e.cred.Issuer(), e.cred.Expires()
		}
	}
	return "", time.Time{}
}

func (l *Lookup) run(ctx context.Context, o *Peer, a AOR) {
	start := time.Now()
	key := userKey(a)
	t := new(tally)
	ctx = withTally(ctx, t)
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	settle := time.AfterFunc(time.Hour, enough)
	defer settle.Stop()
	copy := func(es entries, hops int) {
		if l.take(es, hops, time.Since(start), o.now()) {
			settle.Reset(o.timing.Settle)
		}
		if l.agreed() >= o.timing.Agree {
			enough()
		}
	}
	if es := o.store.local(key); es != nil {
		copy(es, 0)
	}
	r := o.newWalk(key, func(ctx context.Context, p NodeID, hops int) ([]*peer.AddrInfo, error) {
		rec, closer, err := o.messenger.GetValue(ctx, p, key)
		if err != nil {
			return nil, err
		}
		if rec != nil {
			if es, err := o.verifier.record(rec.GetValue(), true); err == nil && es[0].aor == a {
				copy(es, hops+1)
			} else {
				l.refused()
			}
		}
		return closer, nil
	}).run(ctx)
	l.finish(o, a, r, time.Since(start), t.cost())
}

// take works one valid copy in, and says whether it was the first that tells of a phone that can be reached.
//
// A record that tells of none is kept back until the search ends. It may be one that was left behind: a node goes on storing
// what it once was among the nearest to, long after the owner has found nearer ones. Often the searching node itself is
// such a one, so that this would be the first record of all.
func (l *Lookup) take(es entries, hops int, after time.Duration, now time.Time) (first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Copies++
	if l.latest == nil {
		l.stats.First, l.stats.Hops = max(after, 1), hops
	}
	switch {
	case l.latest == nil || es.adds(l.latest):
		l.latest = merge(l.latest, es)
		was := l.live
		l.live = len(l.latest.Record().Live(now)) > 0
		first = l.live && !was
		l.fresh = l.live || was
		if first {
			l.stats.First, l.stats.Hops = max(after, 1), hops
		}
		l.agree = 0
		if !l.latest.adds(es) {
			l.agree = 1
		}
		if l.fresh {
			select {
			case l.news <- struct{}{}:
			default:
			}
		}
	case !l.latest.adds(es):
		l.agree++
	}
	return first
}

// agreed gives how many copies held all that is known. None counts while that tells of no phone.
func (l *Lookup) agreed() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.live {
		return 0
	}
	return l.agree
}

func (l *Lookup) refused() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Refused++
}

// finish decides what the search ended in.
func (l *Lookup) finish(o *Peer, a AOR, r walkResult, took time.Duration, cost Cost) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Asked, l.stats.Answered, l.stats.Took = r.Asked, r.Answered, took
	l.stats.Cost = cost
	switch {
	case l.latest != nil:
		l.fresh = l.fresh || !l.live && !l.shown
		l.err = io.EOF
	case r.Complete || r.Asked == 0 && o.alone():
		l.err = fmt.Errorf("%w: %s (%s asked)", ErrUnknownUser, a, nodes(r.Asked))
	case r.Asked == 0:
		l.err = fmt.Errorf("%w: %s", ErrUnreachable, o.joinTrouble())
	default:
		l.err = fmt.Errorf("%w: of %s asked for %s %d answered", ErrUnreachable, nodes(r.Asked), a, r.Answered)
	}
	close(l.done)
}

// nodes says how many nodes, for people.
func nodes(n int) string {
	if n == 1 {
		return "1 node"
	}
	return strconv.Itoa(n) + " nodes"
}
