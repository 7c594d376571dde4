package phone

import (
	"strings"

	"github.com/emiago/sipgo/sip"
)

// AnswerMode is what a caller asks about who is to answer: a person or the phone by itself (RFC 5373).
type AnswerMode struct {
	Auto       bool // answer without anybody being there; else a person has to
	Require    bool // refuse rather than do the other thing
	Privileged bool // in Priv-Answer-Mode: for callers who may overrule the phone's owner
}

// Option tags of RFC 5373 §3: understanding what a header says, not doing it.
const (
	tagAnswerMode     = "answermode"
	tagPrivAnswerMode = "privanswermode"
)

const (
	headerAnswerMode     = "Answer-Mode"
	headerPrivAnswerMode = "Priv-Answer-Mode"
)

// String writes it as the header does: "Auto", "Manual;require".
func (a AnswerMode) String() string {
	s := "Manual"
	if a.Auto {
		s = "Auto"
	}
	if a.Require {
		s += ";require"
	}
	return s
}

func (a AnswerMode) header() string {
	name := headerAnswerMode
	if a.Privileged {
		name = headerPrivAnswerMode
	}
	return name + ": " + a.String()
}

// ParseAnswerMode reads "auto" or "manual", each perhaps with ";require", in whatever case; false for anything else.
func ParseAnswerMode(s string) (a AnswerMode, ok bool) {
	value, params, _ := strings.Cut(s, ";")
	switch strings.ToLower(strings.TrimSpace(value)) {
	case "auto":
		a.Auto = true
	case "manual":
	default:
		return a, false
	}
	for _, p := range strings.Split(params, ";") {
		if strings.EqualFold(strings.TrimSpace(p), "require") {
			a.Require = true
		}
	}
	return a, true
}

// answerMode gives what an INVITE asks; the privileged header goes before the other (§4.5). Values that nobody knows are as if
// they were not there.
func answerMode(req *sip.Request) (AnswerMode, bool) {
	for _, name := range []string{headerPrivAnswerMode, headerAnswerMode} {
		if h := req.GetHeader(name); h != nil {
			if a, ok := ParseAnswerMode(h.Value()); ok {
				a.Privileged = name == headerPrivAnswerMode
				return a, true
			}
		}
	}
	return AnswerMode{}, false
}

// AnswerMode is what the caller of an incoming call asks; false if it asks nothing.
func (c *Call) AnswerMode() (AnswerMode, bool) {
	if c.outgoing {
		return AnswerMode{}, false
	}
	return answerMode(c.tx.Request()) // neither ever changes
}

// Unattended is a phone that answers by itself, for those callers that allowed says yes to; it is given the From and whether
// the caller claims the privilege of Priv-Answer-Mode. Whoever may not is refused: 403 if automatic answering was required,
// else 480, as of a phone where nobody is, so that the user's other phones go on ringing. So is 403 who requires a person.
//
// The From of a call from inside an overlay has been proven to the node beside this phone; that of one from outside has
// not. allowed has to know.
func Unattended(allowed func(caller string, privileged bool) bool) func(*Call) {
	return func(c *Call) {
		mode, asked := c.AnswerMode()
		switch {
		case asked && mode.Require && !mode.Auto:
			_ = c.Reject(403)
		case !allowed(c.Peer(), asked && mode.Privileged):
			status := 480
			if asked && mode.Require {
				status = 403
			}
			_ = c.Reject(status)
		default:
			_ = c.answer("Auto")
		}
	}
}

// unsupported gives those tags of a Require header that the phone does not know, "" if it knows all.
func unsupported(require []sip.Header) string {
	var unknown []string
	for _, h := range require {
		for _, tag := range strings.Split(h.Value(), ",") {
			switch tag = strings.TrimSpace(tag); strings.ToLower(tag) {
			case tagAnswerMode, tagPrivAnswerMode, "":
			default:
				unknown = append(unknown, tag)
			}
		}
	}
	return strings.Join(unknown, ", ")
}
