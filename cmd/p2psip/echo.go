package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"p2psip/interwork/phone"
	"p2psip/overlay"
)

const (
	echoCalls   = 4
	echoFor     = 2 * time.Minute
	echoExpires = 2 * time.Minute // for which the echo registers; one that was killed is gone after that
	echoRefused = 5 * time.Second // between two lines about calls that were refused
)

func (p *program) echo() *cli.Command {
	return &cli.Command{
		Name: "echo", Usage: "answer calls unattended and send their sound back, to test a line with",
		Description: "p2psip echo                       for alice's own calls, from here or another node of hers\n" +
			"p2psip echo --as alice --allow bob --allow carol\n" +
			"p2psip echo --allow '*'           for every user of the overlay\n" +
			"p2psip call alice --answer-mode auto      calls it",
		Flags: append(handsetFlags(),
			&cli.StringSliceFlag{Name: "allow", Usage: "`WHO` may call besides the user: another user of the overlay, or * for all of them"},
			&cli.IntFlag{Name: "calls", Value: echoCalls, Usage: "`N` calls at one time; more are told that it is busy (default: 4)"},
			&cli.DurationFlag{Name: "for", Value: echoFor, Usage: "`TIME` after which it hangs up (default: 2m)"},
			&cli.BoolFlag{Name: "verbose", Usage: "show the phone's log"},
			&cli.BoolFlag{Name: "json", Usage: "print a line of JSON for every event, for programs"}),
		Action: p.runEcho,
	}
}

func (p *program) runEcho(c *cli.Context) error {
	if _, err := exactArgs(c); err != nil {
		return err
	}
	calls, most := c.Int("calls"), c.Duration("for")
	if calls < 1 || calls > 100 {
		return withHint(usagef("--calls %d is not between 1 and 100", calls), "such as --calls 4")
	}
	if most <= 0 || most > callMost {
		return withHint(usagef("--for %v is not between nothing and a day", most), "such as --for 2m")
	}
	h, err := p.openHandset(c)
	if err != nil {
		return err
	}
	allow, err := parseAllow(h.user, c.StringSlice("allow"))
	if err != nil {
		h.local.Close()
		return err
	}
	log := slog.New(slog.DiscardHandler)
	if c.Bool("verbose") {
		log = p.demoLogger(true)
	}
	e := &echoService{p: p, json: c.Bool("json"), most: most, ctx: c.Context}
	change := func(cfg *phone.Config) {
		cfg.MaxCalls = calls
		cfg.Sound = func(*phone.Call) (phone.Source, phone.Sink) { e := &phone.Echo{}; return e, e }
		cfg.Incoming = e.incoming(phone.Unattended(allow.may))
	}
	ph, err := p.registerEcho(c, h, log, change)
	if err != nil {
		return err
	}
	e.say("listening", "%s answers by itself and sends back what it hears, %s at a time, for %s each.", h.user, plural(calls, "call"), short(most))
	e.say("allowed", "It does so for %s only; to others it is as if it were not there. Ctrl-C ends it.", allow)
	<-c.Context.Done()
	e.say("stopping", "Stopping.")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context), callFarewell)
	defer cancel()
	var wg sync.WaitGroup
	for _, call := range ph.Calls() {
		wg.Go(func() { _ = call.Hangup(ctx) })
	}
	err = ph.Unregister(ctx)
	wg.Wait()
	if err != nil {
		p.ui.Warn(fmt.Sprintf("calls ring nobody there until its registration has run out, in %s", span(echoExpires)), "%v", err)
	}
	err = ph.Close()
	e.watchers.Wait()
	return err
}

// registerEcho makes the phone and registers it, once more with a password if the node asks for one.
func (p *program) registerEcho(c *cli.Context, h *handset, log *slog.Logger, change func(*phone.Config)) (*phone.Phone, error) {
	password := ""
	for {
		ph, err := h.phone(password, log, change)
		if err != nil {
			h.local.Close()
			return nil, err
		}
		done := p.ui.Progress("Registering with the node")
		_, err = ph.Register(c.Context, echoExpires)
		done()
		if err == nil {
			return ph, nil
		}
		closing := ph.Close()
		var status *phone.StatusError
		if !errors.As(err, &status) {
			if c.Context.Err() == nil {
				err = fmt.Errorf("%w: nothing answers at %s (%v)", errSilent, h.node, err)
			}
			return nil, errors.Join(err, closing)
		}
		switch {
		case wantsPassword(status.Status) && password == "":
			if password, err = p.password(c, h.user.String()); err == nil {
				h.local, err = reopen(h.local)
			}
			if err != nil {
				return nil, err
			}
			continue
		case wrongPassword(status.Status, status.Reason):
			err = fmt.Errorf("%w of %s (%d %s)", errPassword, h.user, status.Status, status.Reason)
		case status.Status == 408:
			err = fmt.Errorf("%w: nothing answers at %s", errSilent, h.node)
		case status.Status == 503:
			err = fmt.Errorf("%w: %w", err, overlay.ErrUnreachable)
		}
		return nil, err
	}
}

// guests are those who may call an echo.
type guests struct {
	user  overlay.AOR // its own
	users []overlay.AOR
	all   bool // of the overlay
}

// parseAllow reads who may call. Only users of the overlay can be named: the name of a caller from outside is what that one
// says it is, and nobody has proven it.
func parseAllow(user overlay.AOR, words []string) (*guests, error) {
	a := &guests{user: user}
	for _, w := range words {
		aor, err := user.Host().AOR(w)
		switch {
		case w == "*":
			a.all = true
			continue
		case strings.ContainsAny(w, ":@"):
			if aor, err = overlay.ParseAOR(w); err == nil && aor.Host() != user.Host() {
				return nil, withHint(usagef("--allow %s names nobody of %s", w, user.Host()), "who calls from outside of the overlay has not proven a name")
			}
		}
		if err != nil {
			return nil, &badWord{err}
		}
		a.users = append(a.users, aor)
	}
	return a, nil
}

// may says whether a caller is one of them. The node beside this phone has had every From of its own overlay proven. Those
// who claim the privilege to overrule the owner (Priv-Answer-Mode) have to be the owner.
func (a *guests) may(caller string, privileged bool) bool {
	aor, err := overlay.ParseAOR(caller)
	if err != nil || aor.Host() != a.user.Host() {
		return false
	}
	if aor == a.user {
		return true
	}
	if privileged {
		return false
	}
	for _, u := range a.users {
		if u == aor {
			return true
		}
	}
	return a.all
}

func (a *guests) String() string {
	if a.all {
		return "all users of " + string(a.user.Host())
	}
	names := []string{a.user.String()}
	for _, u := range a.users {
		names = append(names, u.String())
	}
	return strings.Join(names, ", ")
}

// echoService is a running echo.
type echoService struct {
	p        *program
	json     bool
	most     time.Duration
	ctx      context.Context // ends with the program
	watchers sync.WaitGroup  // one for each call

	mu      sync.Mutex // guards what follows
	told    time.Time  // when a refusal was last told of
	refused int        // since then
}

// echoEvent is what --json prints, one a line.
type echoEvent struct {
	Event    string    `json:"event"` // listening, allowed, answered, refused, ended, stopping
	At       time.Time `json:"at"`
	Text     string    `json:"text,omitempty"`
	Caller   string    `json:"caller,omitempty"`
	CallID   string    `json:"call_id,omitempty"`
	Status   int       `json:"status,omitempty"`
	More     int       `json:"more,omitempty"` // refused since the last such event
	TalkMS   float64   `json:"talk_ms,omitempty"`
	Received int       `json:"received,omitempty"`
	Sent     int       `json:"sent,omitempty"`
	Lost     int       `json:"lost,omitempty"`
}

func (e *echoService) say(event, format string, a ...any) {
	e.tell(echoEvent{Event: event, Text: fmt.Sprintf(format, a...)})
}

func (e *echoService) tell(v echoEvent) {
	v.At = e.p.now().UTC()
	if e.json {
		e.p.ui.JSONLine(v)
		return
	}
	e.p.ui.Say("%s", v.Text)
}

// incoming decides by policy and then watches what becomes of a call.
func (e *echoService) incoming(policy func(*phone.Call)) func(*phone.Call) {
	return func(c *phone.Call) {
		policy(c)
		e.watchers.Go(func() { e.watch(c) })
	}
}

// watch tells of a call and ends it when its time is over. It ends with the call, which ends with the phone.
func (e *echoService) watch(c *phone.Call) {
	var since time.Time
	limit := time.NewTimer(e.most)
	defer limit.Stop()
	states := c.States()
	for {
		select {
		case <-limit.C:
			ctx, cancel := context.WithTimeout(context.WithoutCancel(e.ctx), callFarewell)
			_ = c.Hangup(ctx)
			cancel()
		case st, ok := <-states:
			if !ok {
				return
			}
			switch st.Kind {
			case phone.Answered:
				since = st.At
				e.tell(echoEvent{Event: "answered", Caller: c.Peer(), CallID: c.ID(), Text: "Answered " + c.Peer() + "."})
			case phone.Failed:
				e.refuse(c, st)
			case phone.Ended:
				m := c.Media()
				talked := st.At.Sub(since)
				e.tell(echoEvent{
					Event: "ended", Caller: c.Peer(), CallID: c.ID(), TalkMS: millis(talked), Received: m.Received, Sent: m.Sent, Lost: m.Lost,
					Text: fmt.Sprintf("%s after %s: %s heard, %d lost, %d sent back.", endedBy(c.Peer(), st), ms(talked), plural(m.Received, "packet"), m.Lost, m.Sent),
				})
			}
		}
	}
}

func endedBy(peer string, st phone.State) string {
	if st.Reason == "hung up by the far side" {
		return peer + " has hung up"
	}
	return "The call with " + peer + " has ended"
}

// refuse tells of calls that were not taken, but not of each: who calls must not decide how much is printed.
func (e *echoService) refuse(c *phone.Call, st phone.State) {
	now := e.p.now()
	e.mu.Lock()
	if now.Sub(e.told) < echoRefused {
		e.refused++
		e.mu.Unlock()
		return
	}
	more := e.refused
	e.told, e.refused = now, 0
	e.mu.Unlock()
	text := fmt.Sprintf("Refused %s with %d.", c.Peer(), st.Status)
	if more > 0 {
		text += fmt.Sprintf(" Before that, %s.", plural(more, "more call"))
	}
	e.tell(echoEvent{Event: "refused", Caller: c.Peer(), CallID: c.ID(), Status: st.Status, More: more, Text: text})
}
