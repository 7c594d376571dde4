package transaction

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// gong counts when it rings rightly.
type gong struct {
	c    *clock
	a    alarm
	rung []time.Duration
	do   func()
}

func (g *gong) ring(a *alarm) {
	if g.do != nil {
		g.do()
	}
	if g.c.claim(a) {
		g.rung = append(g.rung, time.Since(g.c.start))
	}
}

// TestClock: alarms set, set anew and stopped at random ring when they should and at no other time.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClock()
		rnd := rand.New(rand.NewPCG(1, 2))
		gongs := make([]gong, 50)
		want := make([][]time.Duration, len(gongs))
		due := make([]time.Duration, len(gongs))
		for i := range gongs {
			gongs[i].c = c
			gongs[i].a.bell = &gongs[i]
		}
		for range 3000 {
			i := rnd.IntN(len(gongs))
			now := time.Since(c.start)
			for j := range due {
				if due[j] != 0 && due[j] <= now {
					want[j], due[j] = append(want[j], due[j]), 0
				}
			}
			if rnd.IntN(3) == 0 {
				c.unset(&gongs[i].a)
				due[i] = 0
			} else {
				d := time.Second << rnd.IntN(7)
				c.set(&gongs[i].a, d)
				due[i] = now + d
			}
			time.Sleep(time.Duration(rnd.IntN(500))*time.Millisecond + 1)
			synctest.Wait()
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		for i := range gongs {
			if due[i] != 0 {
				want[i] = append(want[i], due[i])
			}
			if got, want := fmt.Sprint(gongs[i].rung), fmt.Sprint(want[i]); got != want {
				t.Errorf("alarm %d rang at\n%s, set for\n%s", i, got, want)
			}
		}
		for d, q := range c.lists {
			if q.head != nil || q.tail != nil || q.running {
				t.Errorf("%v: left over", d)
			}
		}
	})
}

// TestClockLate: an alarm that is stopped or set anew between ringing and the answer does not count.
func TestClockLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClock()
		stopped, anew := gong{c: c}, gong{c: c}
		stopped.a.bell, anew.a.bell = &stopped, &anew
		stopped.do = func() { c.unset(&stopped.a) }
		anew.do = func() { anew.do = nil; c.set(&anew.a, time.Minute) }
		c.set(&stopped.a, time.Second)
		c.set(&anew.a, time.Second)
		time.Sleep(time.Hour)
		synctest.Wait()
		if fmt.Sprint(stopped.rung, anew.rung) != "[] [1m1s]" {
			t.Errorf("%v %v", stopped.rung, anew.rung)
		}
		c.set(&anew.a, time.Second)
		c.stop()
		c.set(&stopped.a, time.Second)
		time.Sleep(time.Hour)
		synctest.Wait()
		if fmt.Sprint(stopped.rung, anew.rung) != "[] [1m1s]" {
			t.Errorf("after the end: %v %v", stopped.rung, anew.rung)
		}
	})
}
