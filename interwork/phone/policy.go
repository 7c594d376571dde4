package phone

import "time"

// AnswerAfter is a phone whose owner is at hand: it rings and answers after that time, at once if it is 0.
func AnswerAfter(d time.Duration) func(*Call) {
	return func(c *Call) {
		if d <= 0 {
			_ = c.Answer()
			return
		}
		if c.Ring() == nil {
			c.after(d, func() { _ = c.Answer() })
		}
	}
}

// RingOnly is a phone that nobody answers.
func RingOnly() func(*Call) { return func(c *Call) { _ = c.Ring() } }

// Busy is a phone whose owner talks to somebody else (486).
func Busy() func(*Call) { return func(c *Call) { _ = c.Reject(486) } }

// after does something later unless the call is over by then.
func (c *Call) after(d time.Duration, f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.states.over() {
		c.deferred = time.AfterFunc(d, f)
	}
}
