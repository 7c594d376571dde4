package phonetest

import (
	"embed"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"text/template"
	"time"
)

//go:embed scenarios/*.xml
var scenarioFiles embed.FS

// Scenario is what a SIPp phone does once: one registration or one call.
type Scenario interface {
	// script names the template and fills in what it needs besides what the phone knows of itself.
	script() (template string, values script)
	// server: the phone waits for a request.
	server() bool
}

// Register sends REGISTER for the phone's contact and wants 200, or Status if that is set. It answers one challenge if
// the phone has a password.
type Register struct {
	Expires  time.Duration // 0 removes the registration
	Wildcard bool          // "Contact: *" with Expires 0: removes every contact of the user
	Status   int           // the final status wanted; 0: 200
}

// Answer waits for one call, rings, answers it and talks. It takes re-INVITEs (hold and resume) from the far side.
type Answer struct {
	Ring      time.Duration // from 180 to 200
	HangUp    time.Duration // > 0: this phone sends BYE after so much silence in signalling; 0: it waits for BYE
	HoldAfter time.Duration // > 0: it holds the call after so long, for HoldFor, then resumes it
	HoldFor   time.Duration
}

// Refuse waits for one call and answers it with Status, 0: 486 Busy Here; with Ring > 0 it rings first.
type Refuse struct {
	Status int
	Ring   time.Duration
}

// NoAnswer rings until it gets CANCEL, then answers 200 to that and 487 to the INVITE.
type NoAnswer struct{}

// Call calls To and talks. The fields are as in Answer.
type Call struct {
	To        string // "sip:bob@p2psip.example"
	HangUp    time.Duration
	HoldAfter time.Duration
	HoldFor   time.Duration
}

// Cancel calls To, and cancels when it has rung for Ring. It wants 200 and 487.
type Cancel struct {
	To   string
	Ring time.Duration
}

// Fail calls To and wants the final status Status, such as 404, 480, 486 or 503.
type Fail struct {
	To     string
	Status int
}

func (s Register) script() (string, script) {
	v := script{"Expires": strconv.Itoa(int(s.Expires / time.Second)), "Final": status(s.Status, 200)}
	if s.Wildcard {
		v["Wildcard"] = "1"
	}
	return "register.xml", v
}

func (s Answer) script() (string, script) {
	v := script{"Ring": millis(s.Ring), "Tag": calleeTag}
	v.talk(s.HangUp, s.HoldAfter, s.HoldFor)
	return "answer.xml", v
}

func (s Refuse) script() (string, script) {
	n := status(s.Status, 486)
	return "refuse.xml", script{"Ring": millis(s.Ring), "Refusal": n + " " + reason(n), "Tag": calleeTag}
}

func (NoAnswer) script() (string, script) { return "noanswer.xml", script{"Tag": calleeTag} }

func (s Call) script() (string, script) {
	v := script{"To": s.To}
	v.talk(s.HangUp, s.HoldAfter, s.HoldFor)
	return "call.xml", v
}

func (s Cancel) script() (string, script) {
	return "cancel.xml", script{"To": s.To, "Ring": millis(s.Ring)}
}

func (s Fail) script() (string, script) {
	return "fail.xml", script{"To": s.To, "Final": status(s.Status, 0)}
}

func (Register) server() bool { return false }
func (Answer) server() bool   { return true }
func (Refuse) server() bool   { return true }
func (NoAnswer) server() bool { return true }
func (Call) server() bool     { return false }
func (Cancel) server() bool   { return false }
func (Fail) server() bool     { return false }

// calleeTag is the To tag of a phone that is called, in SIPp's keywords.
const calleeTag = ";tag=[pid]t[call_number]"

// script is what the templates see. Its methods return changed copies, so that a piece can be included several times.
type script map[string]string

// With sets pairs of names and values.
func (s script) With(pairs ...string) script {
	c := maps.Clone(s)
	for i := 0; i+1 < len(pairs); i += 2 {
		c[pairs[i]] = pairs[i+1]
	}
	return c
}

// WithAuthorization is the request again, with an answer to the challenge and the CSeq number given.
func (s script) WithAuthorization(cseq string) script {
	return s.With("CSeq", cseq, "Authorization",
		fmt.Sprintf("[authentication username=%s password=%s]\n", s["AuthUser"], s["Password"]))
}

// Ack is the ACK for a 2xx to the INVITE at hand: that with CSeq, or the first one.
func (s script) Ack() script {
	cseq := s["CSeq"]
	if cseq == "" {
		cseq = "[$cseq]"
	}
	return s.With("Method", "ACK", "CSeq", cseq, "Direction", "")
}

func (s script) talk(hangUp, holdAfter, holdFor time.Duration) {
	if hangUp > 0 {
		s["OnTimeout"] = fmt.Sprintf(` timeout="%s" ontimeout="hangup"`, millis(hangUp))
	}
	if holdAfter > 0 {
		s["HoldAfter"], s["HoldFor"] = millis(holdAfter), millis(max(holdFor, time.Millisecond))
	}
}

// render fills the template of sc.
func render(sc Scenario, phone script) (string, error) {
	name, values := sc.script()
	t, err := template.New("").Option("missingkey=zero").ParseFS(scenarioFiles, "scenarios/parts.xml", "scenarios/"+name)
	if err != nil {
		return "", fmt.Errorf("scenario %s: %w", name, err)
	}
	all := maps.Clone(phone)
	maps.Copy(all, values)
	if all["Version"] == "" {
		all["Version"] = "1"
	}
	var b strings.Builder
	if err := t.ExecuteTemplate(&b, name, all); err != nil {
		return "", fmt.Errorf("scenario %s: %w", name, err)
	}
	return b.String(), nil
}

// millis is d in milliseconds, "" for none.
func millis(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return strconv.FormatInt(d.Milliseconds(), 10)
}

func status(n, otherwise int) string {
	if n == 0 {
		n = otherwise
	}
	return strconv.Itoa(n)
}

// reason is a reason phrase for the statuses a phone refuses a call with.
func reason(status string) string {
	switch status {
	case "480":
		return "Temporarily Unavailable"
	case "486":
		return "Busy Here"
	case "488":
		return "Not Acceptable Here"
	case "603":
		return "Decline"
	}
	return "Refused"
}
