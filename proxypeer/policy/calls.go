package policy

import (
	"container/list"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
)

// A call that was let through goes on under the policy that it was let through with. maxCalls are remembered, those that
// said something last, for callAge after that; a session timer (RFC 4028) is shorter.
const (
	maxCalls = 8192
	callAge  = 4 * time.Hour
)

// calls remembers the Call-IDs that were let through.
type calls struct {
	mu    sync.Mutex
	byID  map[string]*list.Element // guarded by mu
	order list.List                // of *call, the latest in front; guarded by mu
}

type call struct {
	id   string
	last time.Time
}

// add remembers a Call-ID.
func (c *calls) add(id string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byID == nil {
		c.byID = make(map[string]*list.Element)
	}
	if el, ok := c.byID[id]; ok {
		el.Value.(*call).last = now
		c.order.MoveToFront(el)
		return
	}
	c.byID[id] = c.order.PushFront(&call{id, now})
	if c.order.Len() > maxCalls {
		delete(c.byID, c.order.Remove(c.order.Back()).(*call).id)
	}
}

// known says whether a Call-ID was let through, and keeps it.
func (c *calls) known(id string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.byID[id]
	if !ok {
		return false
	}
	if now.Sub(el.Value.(*call).last) > callAge {
		c.order.Remove(el)
		delete(c.byID, id)
		return false
	}
	el.Value.(*call).last = now
	c.order.MoveToFront(el)
	return true
}

// inside says whether a request claims to be inside a dialog: its To has a tag.
func inside(req *sip.Request) bool {
	to := req.To()
	if to == nil {
		return false
	}
	tag, ok := to.Params.Get("tag")
	return ok && tag != ""
}

// ends says whether a request does nothing but end or confirm.
func ends(req *sip.Request) bool { return req.Method == sip.BYE || req.Method == sip.ACK }

func callID(req *sip.Request) string {
	if id := req.CallID(); id != nil {
		return id.Value()
	}
	return ""
}
