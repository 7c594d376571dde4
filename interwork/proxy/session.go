package proxy

import (
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
)

// Session timers (RFC 4028) of calls that cross the border of the overlay: a proxy peer asks for one where neither phone has,
// so that of a call whose phones or proxy peers die something is heard again, or nothing. Phones that know no session timers
// pay no attention to what it adds, and nothing is required of them.

// minSession is the shortest session interval that is let through (RFC 4028 §5), in seconds.
const minSession = 90

// session is what a proxy peer remembers of the session interval of a request that it carries over the border (§8.1).
type session struct {
	asked  int  // the interval in the request as it leaves, in seconds; 0: none
	minSE  int  // the Min-SE to write; 0: leave what there is
	change bool // the request leaves with another interval than it came with
	uac    bool // the caller supports session timers
}

// judgeSession looks at the session interval of a request that is to cross the border here. It answers one that is too
// small, and says whether the request may go on.
func (c *Core) judgeSession(r *request) bool {
	if c.cfg.Border == nil || r.method != sip.INVITE && r.method != sip.UPDATE {
		return true
	}
	s := &session{}
	least := 0
	for _, h := range r.req.Headers() {
		switch name := h.Name(); {
		case strings.EqualFold(name, "Session-Expires"):
			s.asked = seconds(h.Value())
		case strings.EqualFold(name, "Min-SE"):
			least = max(least, seconds(h.Value()))
		case strings.EqualFold(name, "Supported"):
			for _, tag := range splitList(h.Value()) {
				s.uac = s.uac || strings.EqualFold(tag, "timer")
			}
		}
	}
	switch {
	case s.asked == 0 && r.method == sip.INVITE:
		s.asked, s.change = max(int(c.limits.Session.Seconds()), least), true
	case s.asked == 0:
	case s.asked < minSession && s.uac:
		c.stats.refused.Add(1)
		c.answer(r, 422, "Session Interval Too Small", sip.NewHeader("Min-SE", strconv.Itoa(minSession)))
		return false
	case s.asked < minSession: // a 422 would mean nothing to this caller
		s.asked = max(minSession, least)
		s.minSE, s.change = s.asked, true
	}
	r.session = s
	return true
}

// rewrites says that a header of a request is replaced by those of put.
func (s *session) rewrites(name string) bool {
	return s != nil && s.change && (strings.EqualFold(name, "Session-Expires") || s.minSE > 0 && strings.EqualFold(name, "Min-SE"))
}

// put adds the session interval to the request as it leaves.
func (s *session) put(fwd *sip.Request) {
	if s == nil || !s.change {
		return
	}
	fwd.AppendHeader(sip.NewHeader("Session-Expires", strconv.Itoa(s.asked)))
	if s.minSE > 0 {
		fwd.AppendHeader(sip.NewHeader("Min-SE", strconv.Itoa(s.minSE)))
	}
}

// answer changes a 2xx on its way to the caller (§8.2): where the callee knows no session timers and the caller does, he
// is told to refresh.
func (s *session) answer(res *sip.Response) {
	if s == nil || s.asked == 0 || !s.uac || res.GetHeader("Session-Expires") != nil {
		return
	}
	res.AppendHeader(sip.NewHeader("Require", "timer"))
	res.AppendHeader(sip.NewHeader("Session-Expires", strconv.Itoa(s.asked)+";refresher=uac"))
}

// sessionOf gives the session interval that a 2xx to INVITE or UPDATE agrees on; 0 for none.
func sessionOf(res *sip.Response) time.Duration {
	if h := res.GetHeader("Session-Expires"); h != nil {
		return time.Duration(seconds(h.Value())) * time.Second
	}
	return 0
}

// maxSession is longer than any session interval that makes sense.
const maxSession = 7 * 24 * 3600

// seconds reads a number of seconds in front of parameters; 0 if it is none.
func seconds(value string) int {
	text, _, _ := strings.Cut(value, ";")
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 32)
	if err != nil {
		return 0
	}
	return int(min(n, maxSession))
}
