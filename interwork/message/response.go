package message

import (
	"strconv"

	"github.com/emiago/sipgo/sip"
)

// NewResponse makes a response to req (RFC 3261 §8.2.6): it has the Via, From, To, Call-ID and CSeq of req, in a 100 its Timestamp,
// Record-Route where the response can make a dialog (§12.1.1). An empty reason means the usual phrase. The
// values except To are req's own; nobody changes a header in place.
//
// A status above 100 puts a tag on a To that has none. The tag is the same for every response this process makes to one
// request, as §8.2.6.2 asks, and cannot be guessed from outside; SetToTag chooses another.
func NewResponse(req *sip.Request, status int, reason string) *sip.Response {
	if reason == "" {
		reason = StatusText(status)
	}
	res := sip.NewResponse(status, reason)
	b := builder{md: &res.MessageData}
	forms := status > 100 && status < 300 && dialogForming(req.Method)
	for _, h := range req.Headers() {
		switch h.Name() {
		case "Via", "From", "Call-ID", "CSeq":
			b.share(h)
		case "Record-Route":
			if forms {
				b.share(h)
			}
		case "Timestamp":
			if status == 100 {
				b.share(h)
			}
		case "To":
			if to := req.To(); to != nil && status == 100 {
				b.md.AppendHeader(to)
			} else if to != nil {
				b.md.AppendHeader(sip.HeaderClone(to))
			}
		}
	}
	if to := res.To(); to != nil && status > 100 && !to.Params.Has("tag") {
		to.Params = append(to.Params, sip.HeaderKV{K: "tag", V: responseTag(req)})
	}
	res.SetBody(nil)
	res.SetTransport(req.Transport())
	res.SetDestination(req.MessageData.Source())
	return res
}

// SetToTag puts tag on the To of res in place of the one it has.
func SetToTag(res *sip.Response, tag string) {
	to := res.To()
	if to == nil {
		return
	}
	c := &sip.ToHeader{DisplayName: to.DisplayName, Address: to.Address, Params: to.Params.Clone()}
	c.Params.Add("tag", tag)
	res.ReplaceHeader(c)
}

func dialogForming(m sip.RequestMethod) bool {
	return m == sip.INVITE || m == sip.SUBSCRIBE || m == sip.NOTIFY || m == sip.REFER
}

// responseTag makes the tag of a response from what makes the request unique. Nobody can foresee it who has not seen the
// request, and one that is repeated gets the same tag, also from a process that has started anew meanwhile.
func responseTag(req *sip.Request) string {
	h := uint64(14695981039346656037) // FNV-1a
	w := func(s string) {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * 1099511628211
		}
		h *= 1099511628211
	}
	if v := req.Via(); v != nil {
		branch, _ := v.Params.Get("branch")
		w(branch)
		w(v.Host)
	}
	if c := req.CallID(); c != nil {
		w(string(*c))
	}
	if f := req.From(); f != nil {
		tag, _ := f.Params.Get("tag")
		w(tag)
	}
	if c := req.CSeq(); c != nil {
		w(strconv.FormatUint(uint64(c.SeqNo), 10))
	}
	return strconv.FormatUint(h, 36)
}

// StatusText is the usual reason phrase of a status, "" if it has none (RFC 3261 §21 and extensions).
func StatusText(status int) string { return statusText[status] }

var statusText = map[int]string{
	100: "Trying", 180: "Ringing", 181: "Call Is Being Forwarded", 182: "Queued", 183: "Session Progress",
	199: "Early Dialog Terminated", 200: "OK", 202: "Accepted", 204: "No Notification",
	300: "Multiple Choices", 301: "Moved Permanently", 302: "Moved Temporarily", 305: "Use Proxy",
	380: "Alternative Service",
	400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden", 404: "Not Found",
	405: "Method Not Allowed", 406: "Not Acceptable", 407: "Proxy Authentication Required", 408: "Request Timeout",
	410: "Gone", 412: "Conditional Request Failed", 413: "Request Entity Too Large", 414: "Request-URI Too Long",
	415: "Unsupported Media Type", 416: "Unsupported URI Scheme", 420: "Bad Extension", 421: "Extension Required",
	422: "Session Interval Too Small", 423: "Interval Too Brief", 428: "Use Identity Header",
	429: "Provide Referrer Identity", 430: "Flow Failed", 433: "Anonymity Disallowed", 436: "Bad Identity Info",
	437: "Unsupported Credential", 438: "Invalid Identity Header", 439: "First Hop Lacks Outbound Support",
	440: "Max-Breadth Exceeded", 469: "Bad Info Package", 470: "Consent Needed",
	480: "Temporarily Unavailable", 481: "Call/Transaction Does Not Exist", 482: "Loop Detected", 483: "Too Many Hops",
	484: "Address Incomplete", 485: "Ambiguous", 486: "Busy Here", 487: "Request Terminated",
	488: "Not Acceptable Here", 489: "Bad Event", 491: "Request Pending", 493: "Undecipherable",
	494: "Security Agreement Required",
	500: "Server Internal Error", 501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable",
	504: "Server Time-out", 505: "Version Not Supported", 513: "Message Too Large", 580: "Precondition Failure",
	600: "Busy Everywhere", 603: "Decline", 604: "Does Not Exist Anywhere", 606: "Not Acceptable",
	607: "Unwanted", 608: "Rejected",
}
