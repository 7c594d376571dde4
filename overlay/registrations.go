package overlay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"p2psip/overlay/datadir"
)

// maxRegistrations bounds the users of one node; a credential names no more.
const maxRegistrations = maxURIs

// renewal decides when a record is published again: at half its life. While fewer nodes than k are there to store it, as in
// an overlay that has just started, it is published earlier, first after Timing.Early and then four times as late each
// time, so that nodes that came in meanwhile get it.
type renewal struct {
	half, first, early time.Duration
}

// after gives the time to wait after a publication.
func (n *renewal) after(wanted, k int) time.Duration {
	if n.early <= 0 {
		n.early = n.first
	}
	if wanted >= k || n.early >= n.half {
		return n.half
	}
	wait := n.early
	n.early *= 4
	return wait
}

// reset begins with the early times anew.
func (n *renewal) reset() { n.early = n.first }

// Registrations keeps the records of this node's users in the overlay true: it signs and publishes what it is told, with
// a rising sequence number, again at half life, again after a failure, again after the node was cut off. It remembers on
// disk what it published last, so that a sequence number is never used twice and a user whose phones are gone after a
// restart is taken out of the overlay.
type Registrations struct {
	o     *Peer
	path  string // of the state file, "" for none
	users map[AOR]*registration
	mu    sync.Mutex // guards users and saved
	saved map[AOR]savedRegistration
}

type savedRegistration struct {
	Sequence uint64 `json:"sequence"`
	Devices  int    `json:"devices"`
}

// registration is one user's record in the making. One goroutine owns publishing it.
type registration struct {
	aor  AOR
	wake chan struct{} // capacity 1

	mu      sync.Mutex
	devices []Device    // guarded by mu: what is to be published
	version int         // guarded by mu: rises with every Set
	waiting []regWaiter // guarded by mu
	status  Publishing  // guarded by mu
}

type regWaiter struct {
	version int
	done    chan error // capacity 1
}

// Publishing tells how a user's record stands, for `p2psip status`.
type Publishing struct {
	AOR       AOR
	Devices   int
	Sequence  uint64
	Published time.Time // zero: never
	Next      time.Time // when it will be published again
	Err       error     // of the last attempt
	Publication
}

func newRegistrations(o *Peer, path string) (*Registrations, error) {
	r := &Registrations{o: o, path: path, users: map[AOR]*registration{}, saved: map[AOR]savedRegistration{}}
	if path == "" {
		return r, nil
	}
	b, err := datadir.ReadFile(path, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	var m map[string]savedRegistration
	if err := json.Unmarshal(b, &m); err != nil {
		// Sequence numbers follow the clock, so starting afresh loses nothing but the memory of who was registered.
		o.log.Warn("the file of publications is damaged and will be written anew", "file", path, "error", err)
		return r, nil
	}
	for s, v := range m {
		if a, err := ParseAOR(s); err == nil && len(r.saved) < maxRegistrations {
			r.saved[a] = v
		}
	}
	return r, nil
}

// Set makes devices the registered devices of a user at this node, none to take the user out, and waits until a quorum
// has stored that. The Expires field of the devices is not looked at: a device counts as reachable for the overlay's
// record lifetime from each publication on. After an error the change stands and is tried again in the background.
func (r *Registrations) Set(ctx context.Context, a AOR, devices []Device) error {
	if !r.o.cred.Load().Entitled(a) {
		return fmt.Errorf("%w: this node's credential is not for %s", ErrNotEntitled, a)
	}
	if len(devices) > MaxDevices {
		return fmt.Errorf("%d devices of %s, %d are allowed", len(devices), a, MaxDevices)
	}
	for _, d := range devices {
		if !validDeviceID(d.ID) || d.Q > 1000 {
			return fmt.Errorf("device %q with q %d cannot be published", clip(d.ID), d.Q)
		}
	}
	reg, err := r.registration(a)
	if err != nil {
		return err
	}
	w := regWaiter{done: make(chan error, 1)}
	reg.mu.Lock()
	reg.devices = append([]Device(nil), devices...)
	reg.version++
	w.version = reg.version
	reg.waiting = append(reg.waiting, w)
	reg.mu.Unlock()
	reg.poke()
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("publishing %s: %w", a, ctx.Err())
	}
}

func (r *Registrations) registration(a AOR) (*registration, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if reg, ok := r.users[a]; ok {
		return reg, nil
	}
	if len(r.users) >= maxRegistrations {
		return nil, fmt.Errorf("this node publishes %d users already", maxRegistrations)
	}
	reg := &registration{aor: a, wake: make(chan struct{}, 1)}
	if !r.o.start(func() { r.keep(reg) }) {
		return nil, ErrClosed
	}
	r.users[a] = reg
	return reg, nil
}

func (reg *registration) poke() {
	select {
	case reg.wake <- struct{}{}:
	default:
	}
}

// renew has every record published again soon; the node has just come back among the others.
func (r *Registrations) renew() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, reg := range r.users {
		reg.poke()
	}
}

// Remembered gives the users that were registered when the node last ran and have not been Set since.
func (r *Registrations) Remembered() []AOR {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []AOR
	for a, s := range r.saved {
		if _, ok := r.users[a]; !ok && s.Devices > 0 {
			out = append(out, a)
		}
	}
	return out
}

// Status gives how each user's record stands.
func (r *Registrations) Status() []Publishing {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Publishing, 0, len(r.users))
	for _, reg := range r.users {
		reg.mu.Lock()
		s := reg.status
		s.AOR, s.Devices = reg.aor, len(reg.devices)
		reg.mu.Unlock()
		out = append(out, s)
	}
	return out
}

// keep publishes one user until the node closes.
func (r *Registrations) keep(reg *registration) {
	ctx := r.o.ctx
	retry := r.o.timing.RetryMin
	dice := r.o.random.of(reg.aor.String())
	again := renewal{half: r.o.doc.DHT.RecordLifetime / 2, first: r.o.timing.Early}
	wait := time.Hour
	for {
		t := time.NewTimer(wait)
		select {
		case <-reg.wake:
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
		if ctx.Err() != nil {
			reg.answer(reg.currentVersion(), ErrClosed)
			return
		}
		version, pub, err := r.publish(ctx, reg)
		if err != nil {
			wait = dice.jitter(retry)
			retry = min(2*retry, r.o.timing.RetryMax)
			again.reset()
		} else {
			wait = dice.jitter(again.after(pub.Wanted, r.o.doc.DHT.BucketSize))
			retry = r.o.timing.RetryMin
		}
		reg.settle(version, pub, err, r.o.now().Add(wait))
		if err != nil {
			r.o.log.Warn("a user's record could not be published; it will be tried again", "user", reg.aor, "again_in", wait.Round(time.Second), "error", err)
		} else {
			r.o.log.Debug("published", "user", reg.aor, "stored", pub.Stored, "wanted", pub.Wanted, "took", pub.Took)
		}
	}
}

// publish signs and stores the present state.
func (r *Registrations) publish(ctx context.Context, reg *registration) (version int, pub Publication, err error) {
	reg.mu.Lock()
	version = reg.version
	devices := append([]Device(nil), reg.devices...)
	reg.mu.Unlock()

	now := r.o.now()
	seq, err := r.nextSequence(reg.aor, len(devices), now)
	if err != nil {
		return version, pub, err
	}
	reg.mu.Lock()
	reg.status.Sequence = seq
	reg.mu.Unlock()
	issued := time.UnixMilli(int64(seq))
	for i := range devices {
		devices[i].Expires = issued.Add(r.o.doc.DHT.RecordLifetime)
	}
	value, err := signEntry(r.o.key, r.o.cred.Load(), r.o.doc, reg.aor, NodeEntry{
		Addrs: r.o.publicAddrs(), Sequence: seq, Expires: issued.Add(r.o.doc.DHT.Retention), Devices: devices,
	})
	if err != nil {
		return version, pub, err
	}
	pub, err = r.o.putRecord(ctx, userKey(reg.aor), value)
	return version, pub, err
}

// nextSequence gives a sequence number that was never used for the user, and writes it down before it is.
func (r *Registrations) nextSequence(a AOR, devices int, now time.Time) (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	seq := uint64(now.UnixMilli())
	if last := r.saved[a].Sequence; seq <= last && last <= uint64(now.Add(ClockSkew).UnixMilli()) {
		// The clock was set back a little. Further back than ClockSkew means that it was wrong before, and then nobody
		// accepted what was signed under it.
		seq = last + 1
	}
	r.saved[a] = savedRegistration{Sequence: seq, Devices: devices}
	if r.path == "" {
		return seq, nil
	}
	m := map[string]savedRegistration{}
	for a, s := range r.saved {
		m[a.String()] = s
	}
	b, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return 0, err
	}
	return seq, datadir.WriteFile(r.path, b, 0o600)
}

func (reg *registration) currentVersion() int {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	return reg.version
}

// settle notes the outcome and tells those who waited for it.
func (reg *registration) settle(version int, pub Publication, err error, next time.Time) {
	reg.mu.Lock()
	reg.status.Err, reg.status.Next, reg.status.Publication = err, next, pub
	if err == nil {
		reg.status.Published = time.UnixMilli(int64(reg.status.Sequence))
	}
	reg.mu.Unlock()
	reg.answer(version, err)
}

// answer tells those who wait for a version up to this one how it went.
func (reg *registration) answer(version int, err error) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	rest := reg.waiting[:0]
	for _, w := range reg.waiting {
		if w.version <= version {
			w.done <- err
		} else {
			rest = append(rest, w)
		}
	}
	reg.waiting = rest
}

var _ slog.LogValuer = AOR{}

// LogValue keeps the log readable.
func (a AOR) LogValue() slog.Value { return slog.StringValue(a.String()) }
