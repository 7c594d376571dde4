package transaction

import (
	"errors"
	"time"
)

// Timers are the base values of RFC 3261 §17 and table 4. The zero value of a field means its default.
type Timers struct {
	T1 time.Duration // estimate of the round-trip time; 500 ms
	T2 time.Duration // longest interval between retransmissions of non-INVITE requests and INVITE responses; 4 s
	T4 time.Duration // how long a message stays in the network; 5 s

	// Trying is how long an INVITE may stay without answer before the layer itself sends 100 (§17.2.1); 200 ms.
	Trying time.Duration

	// Silence is how long another node may leave a request without any response: a node answers at once, if only with
	// 100 (see Server.Respond), so one that does not is dead, although its connection has not noticed; 1.8 s, so that two
	// that are tried one after the other leave the caller waiting for less than 4 s.
	Silence time.Duration

	// D is how long a client keeps re-acknowledging a final response over an unreliable flow (§17.1.1.2); at least 32 s.
	D time.Duration

	// C is how long a proxy waits for the final response to an INVITE after the last provisional one (§16.6 step 11); it
	// has to be more than three minutes. Client.LimitRinging asks for it.
	C time.Duration

	// Age ends a server transaction whose user never answers it, so that a fault there cannot fill the table, and gives
	// up an INVITE that rings for so long; 1 h.
	Age time.Duration
}

// Defaults of RFC 3261 table 4.
const (
	defaultT1      = 500 * time.Millisecond
	defaultT2      = 4 * time.Second
	defaultT4      = 5 * time.Second
	defaultTrying  = 200 * time.Millisecond
	defaultSilence = 1800 * time.Millisecond
	defaultD       = 32 * time.Second
	defaultC       = 185 * time.Second
	defaultAge     = time.Hour
)

func (t Timers) withDefaults() Timers {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&t.T1, defaultT1)
	set(&t.T2, defaultT2)
	set(&t.T4, defaultT4)
	set(&t.Trying, defaultTrying)
	set(&t.Silence, defaultSilence)
	set(&t.D, defaultD)
	set(&t.C, defaultC)
	set(&t.Age, defaultAge)
	return t
}

// Validate refuses negative values and a T2 below T1, with which retransmissions would speed up.
func (t Timers) Validate() error {
	for _, d := range []time.Duration{t.T1, t.T2, t.T4, t.Trying, t.Silence, t.D, t.C, t.Age} {
		if d < 0 {
			return errors.New("transaction: a timer is negative")
		}
	}
	if t = t.withDefaults(); t.T2 < t.T1 {
		return errors.New("transaction: timer T2 is shorter than T1")
	}
	return nil
}

// give is 64*T1: timers B, F, H, J, L and M, after which the far side has given up.
func (t *Timers) give() time.Duration { return 64 * t.T1 }

// trying is when the layer sends 100 for a request that its user has not answered yet.
func (t *Timers) trying(invite, reliable bool) time.Duration {
	switch {
	case invite:
		return t.Trying
	case reliable: // RFC 4320 §4.1 lets a 100 go at any time, and another node waits for a sign of life
		return min(t.T1, t.Silence/3)
	}
	return t.slowed()
}

// slowed is when timer E of a non-INVITE client has grown to T2: the moment at which RFC 4320 §4.1 wants a 100.
func (t *Timers) slowed() time.Duration {
	var sum time.Duration
	for e := t.T1; e < t.T2; e *= 2 {
		sum += e
	}
	return sum
}
