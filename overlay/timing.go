package overlay

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"google.golang.org/protobuf/proto"
)

// Timing holds the durations that decide how fast the overlay answers. They do not have to agree between nodes. The zero
// value of a field means its default.
type Timing struct {
	Dial     time.Duration // for one connection to be made
	RPC      time.Duration // for one request, with the connection it may need
	Hedge    time.Duration // after this a request counts as slow, and another node is asked beside it
	Walk     time.Duration // for one walk to the nodes nearest to a key
	Settle   time.Duration // how long a lookup goes on for newer copies after the first record
	Alpha    int           // how many nodes are asked at a time, slow ones not counted
	Agree    int           // how many equal copies make a lookup sure
	JoinMin  time.Duration // first pause between attempts to join
	JoinMax  time.Duration // longest pause between attempts to join
	RetryMin time.Duration // first pause before a failed publication is tried again
	RetryMax time.Duration // longest such pause
	Early    time.Duration // until a record that too few nodes store is published again
	Upkeep   time.Duration // between two questions who is new nearby
}

// defaultTiming is measured, not guessed: see DESIGN.md.
var defaultTiming = Timing{
	Dial:     2 * time.Second,
	RPC:      3 * time.Second,
	Hedge:    200 * time.Millisecond,
	Walk:     8 * time.Second,
	Settle:   300 * time.Millisecond,
	Alpha:    6,
	Agree:    3,
	JoinMin:  time.Second,
	JoinMax:  30 * time.Second,
	RetryMin: 2 * time.Second,
	RetryMax: time.Minute,
	Early:    30 * time.Second,
	Upkeep:   5 * time.Minute,
}

func (t Timing) withDefaults() Timing {
	d := defaultTiming
	set := func(v *time.Duration, def time.Duration) {
		if *v <= 0 {
			*v = def
		}
	}
	set(&t.Dial, d.Dial)
	set(&t.RPC, d.RPC)
	set(&t.Hedge, d.Hedge)
	set(&t.Walk, d.Walk)
	set(&t.Settle, d.Settle)
	set(&t.JoinMin, d.JoinMin)
	set(&t.JoinMax, d.JoinMax)
	set(&t.RetryMin, d.RetryMin)
	set(&t.RetryMax, d.RetryMax)
	set(&t.Early, d.Early)
	set(&t.Upkeep, d.Upkeep)
	if t.Alpha <= 0 {
		t.Alpha = d.Alpha
	}
	if t.Agree <= 0 {
		t.Agree = d.Agree
	}
	return t
}

// apart gives up to a microsecond, by the hash of what it is for. Durations that many timers of a node have in common are
// changed by it, so that the timers of what began together do not end together, in an order that is chance.
func apart(h [sha256.Size]byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint64(h[:]) % uint64(time.Microsecond))
}

// sleep waits for d or until the context ends, and says whether it waited to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func unmarshalMessage(b []byte, m *pb.Message) error { return proto.Unmarshal(b, m) }
