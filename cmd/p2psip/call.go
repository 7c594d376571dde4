package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"p2psip/interwork/phone"
	"p2psip/interwork/phone/audio"
)

const (
	callFor      = 10 * time.Second // how long a call lasts if nothing else is said
	callRing     = time.Minute      // how long somebody is given to answer
	callMost     = 24 * time.Hour
	callFarewell = 3 * time.Second // for the answer to a BYE or CANCEL
	callTail     = 500 * time.Millisecond
)

func (p *program) call() *cli.Command {
	return &cli.Command{
		Name: "call", Usage: "call somebody: send a tone or a WAV file, record what comes back, and rate the line", ArgsUsage: "TARGET",
		Description: "p2psip call bob\n" +
			"p2psip call sip:bob@p2psip.example --wav hello.wav --record answer.wav\n" +
			"p2psip call alice --answer-mode auto --for 30s      alice's own echo, see p2psip echo\n" +
			"p2psip call sip:carol@example.com --as alice --json | jq .mos",
		Flags: append(handsetFlags(),
			&cli.StringFlag{Name: "wav", Usage: "`FILE` to play: WAV, 16 bit, one channel, 8000 or 16000 Hz; then silence"},
			&cli.Float64Flag{Name: "tone", Usage: "`HZ` of a tone to send, from 100 to 3900 (default: 440)"},
			&cli.StringFlag{Name: "record", Usage: "`FILE` for what is heard, as WAV"},
			&cli.DurationFlag{Name: "for", Usage: "`TIME` to talk, such as 30s (default: 10s, or as long as the WAV file)"},
			&cli.DurationFlag{Name: "ring", Value: callRing, Usage: "`TIME` to wait for an answer (default: 1m)"},
			&cli.StringFlag{Name: "codec", Usage: "`NAME` of the only codec to offer, PCMU or PCMA (default: both)"},
			&cli.StringFlag{Name: "answer-mode", Usage: "`MODE` that the other phone is asked for: auto, without anybody being there, or manual; with ;require behind it, not otherwise"},
			&cli.BoolFlag{Name: "verbose", Usage: "show the phone's log"},
			jsonFlag()),
		Action: p.runCall,
	}
}

// callPlan is what the command line asks for.
type callPlan struct {
	source phone.Source
	codecs []phone.Codec
	record *recording
	talk   time.Duration
	ring   time.Duration
	mode   *phone.AnswerMode
}

func (p *program) runCall(c *cli.Context) (err error) {
	args, err := exactArgs(c, "somebody to call, such as bob or sip:bob@p2psip.example")
	if err != nil {
		return err
	}
	plan, err := planCall(c)
	if err != nil {
		return err
	}
	h, err := p.openHandset(c)
	if err != nil {
		return err
	}
	to, err := h.target(args[0])
	if err != nil {
		h.local.Close()
		return err
	}
	if plan.record != nil {
		if err := plan.record.open(); err != nil {
			h.local.Close()
			return err
		}
		defer func() { err = errors.Join(err, plan.record.close()) }()
	}
	log := slog.New(slog.DiscardHandler)
	if c.Bool("verbose") {
		log = p.demoLogger(true)
	}
	report, err := p.placeCall(c, h, to, plan, log)
	if report == nil {
		return err
	}
	if c.Bool("json") {
		if e := p.ui.JSON(report); e != nil {
			return e
		}
	} else if report.Outcome == outcomeAnswered || report.Outcome == outcomeNoMedia {
		p.sayCall(report)
	}
	return err
}

// planCall reads the options.
func planCall(c *cli.Context) (*callPlan, error) {
	plan := &callPlan{source: &audio.Tone{Hz: phone.DefaultToneHz}, talk: callFor, ring: c.Duration("ring")}
	if c.IsSet("wav") && c.IsSet("tone") {
		return nil, usagef("--wav and --tone cannot be together")
	}
	if c.IsSet("tone") {
		hz := c.Float64("tone")
		if !(hz >= 100 && hz <= 3900) {
			return nil, withHint(usagef("--tone %v is not between 100 and 3900", hz), "a telephone line carries nothing else")
		}
		plan.source = &audio.Tone{Hz: hz}
	}
	if name := c.String("wav"); name != "" {
		samples, err := readWav(name)
		if err != nil {
			return nil, err
		}
		plan.source = &phone.Clip{Samples: samples}
		plan.talk = time.Duration(len(samples))*time.Second/audio.Rate + callTail
	}
	if c.IsSet("for") {
		plan.talk = c.Duration("for")
	}
	for name, d := range map[string]time.Duration{"for": plan.talk, "ring": plan.ring} {
		if d <= 0 || d > callMost {
			return nil, withHint(usagef("--%s %v is not between nothing and a day", name, d), "such as --%s 30s", name)
		}
	}
	switch strings.ToUpper(c.String("codec")) {
	case "":
		plan.codecs = phone.DefaultCodecs()
	case "PCMU":
		plan.codecs = []phone.Codec{phone.PCMU}
	case "PCMA":
		plan.codecs = []phone.Codec{phone.PCMA}
	default:
		return nil, withHint(usagef("there is no codec %q", c.String("codec")), "PCMU and PCMA are known")
	}
	if s := c.String("answer-mode"); s != "" {
		mode, ok := phone.ParseAnswerMode(s)
		if !ok {
			return nil, withHint(usagef("--answer-mode %q is neither auto nor manual", s), "such as --answer-mode auto, or 'auto;require'")
		}
		plan.mode = &mode
	}
	if name := c.String("record"); name != "" {
		plan.record = &recording{name: name}
	}
	return plan, nil
}

func readWav(name string) ([]int16, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	samples, err := audio.ReadWav(f)
	if err == nil && len(samples) == 0 {
		err = fmt.Errorf("%w: it has no samples", audio.ErrWav)
	}
	if err != nil {
		return nil, withHint(fmt.Errorf("%s: %w", name, err), "bring it into shape with, for example: sox %s -r 8000 -c 1 -b 16 out.wav", name)
	}
	return samples, nil
}

// recording is the file for what is heard.
type recording struct {
	name string
	file *os.File
	wav  *audio.WavWriter
	some bool // anything was written
}

func (r *recording) open() error {
	f, err := os.Create(r.name)
	if err != nil {
		return err
	}
	if r.wav, err = audio.NewWavWriter(f); err != nil {
		return errors.Join(err, f.Close())
	}
	r.file = f
	return nil
}

// Write implements phone.Sink.
func (r *recording) Write(samples []int16) { r.some = true; r.wav.Write(samples) }

// close finishes the file; one without sound is removed. The phone has to be closed before.
func (r *recording) close() error {
	err := errors.Join(r.wav.Close(), r.file.Close())
	if !r.some {
		return errors.Join(err, os.Remove(r.name))
	}
	if err != nil {
		err = fmt.Errorf("writing %s: %w", r.name, err)
	}
	return err
}

// target is who is called: a whole address, or a user of the node's overlay.
func (h *handset) target(word string) (string, error) {
	switch {
	case strings.HasPrefix(strings.ToLower(word), "sip:"), strings.HasPrefix(strings.ToLower(word), "sips:"):
		return word, nil
	case strings.Contains(word, "@"):
		return "sip:" + word, nil
	}
	aor, err := h.user.Host().AOR(word)
	if err != nil {
		return "", &badWord{err}
	}
	return aor.String(), nil
}

// placeCall makes the call, once more with a password if the node asks for one. A nil report means that no call was made.
func (p *program) placeCall(c *cli.Context, h *handset, to string, plan *callPlan, log *slog.Logger) (*callReport, error) {
	password := ""
	for {
		ph, err := h.phone(password, log, func(cfg *phone.Config) {
			cfg.Codecs = plan.codecs
			cfg.Sound = func(*phone.Call) (phone.Source, phone.Sink) {
				if plan.record == nil {
					return plan.source, nullSink{}
				}
				return plan.source, plan.record
			}
		})
		if err != nil {
			h.local.Close()
			return nil, err
		}
		report, err := p.talk(c.Context, h, ph, to, plan)
		closing := ph.Close()
		if password != "" || report == nil || !wantsPassword(report.Status) {
			return report, errors.Join(err, closing)
		}
		if password, err = p.password(c, h.user.String()); err != nil {
			return nil, err
		}
		if h.local, err = reopen(h.local); err != nil {
			return nil, err
		}
	}
}

// nullSink has the sound put in order, so that what came too late is counted, and listens to none of it.
type nullSink struct{}

func (nullSink) Write([]int16) {}

// talk makes one call from beginning to end.
func (p *program) talk(ctx context.Context, h *handset, ph *phone.Phone, to string, plan *callPlan) (*callReport, error) {
	p.ui.Note("Calling %s as %s, by the node at %s.", to, h.user, h.node)
	began := time.Now()
	dial, stop := context.WithTimeout(ctx, plan.ring)
	defer stop()
	call, err := ph.CallWith(dial, to, phone.Options{AnswerMode: plan.mode})
	if err != nil {
		return nil, withHint(err, "somebody to call is written like sip:bob@p2psip.example")
	}
	r := &callReport{From: h.user.String(), To: to, CallID: call.ID(), began: began}
	done := p.ui.Progress("Waiting for the other phone")
	answered, rang := false, false
	for st := range call.States() {
		switch st.Kind {
		case phone.Ringing:
			done()
			rang = true
			r.RingingMS = millis(st.At.Sub(began))
			what := "It rings"
			if st.Status == 183 {
				what = "It is being put through, and can be heard"
			}
			p.ui.Note("%s, after %s.", what, ms(st.At.Sub(began)))
			done = p.ui.Progress("Waiting for somebody to answer")
		case phone.Answered:
			answered = true
			r.AnsweredMS = millis(st.At.Sub(began))
		}
		r.Status, r.Reason = st.Status, st.Reason
		if answered || st.Kind == phone.Failed {
			break
		}
	}
	done()
	if !answered {
		gaveUp := dial.Err() != nil && ctx.Err() == nil
		return r, r.refused(call, h, rang, gaveUp, ctx)
	}
	who := ""
	if mode := call.Answerer(); strings.HasPrefix(mode, "Auto") {
		who = ", by the phone itself"
	}
	p.ui.Note("Answered after %s%s. Talking for %s; Ctrl-C ends the call.", ms(time.Duration(r.AnsweredMS*float64(time.Millisecond))), who, short(plan.talk))
	p.listen(ctx, h, call, plan, r)
	r.measure(call.Media())
	if plan.record != nil {
		r.Record = plan.record.name
	}
	if r.Received == 0 && !(r.Interrupted && r.TalkMS < millis(callTail)) { // else there was no time to hear anything
		r.Outcome, r.Error = outcomeNoMedia, errNoMedia.Error()
		return r, errNoMedia
	}
	r.Outcome = outcomeAnswered
	return r, nil
}

// listen lets the call last until its time is over, one side hangs up, or somebody presses Ctrl-C, and hangs up.
func (p *program) listen(ctx context.Context, h *handset, call *phone.Call, plan *callPlan, r *callReport) {
	began := time.Now()
	over := make(chan struct{})
	go func() { // ends with the call
		defer close(over)
		for range call.States() {
		}
	}()
	end := time.NewTimer(plan.talk)
	defer end.Stop()
	look := time.NewTicker(pathEvery)
	defer look.Stop()
	shown := ""
	ask := func() {
		if path := pathOf(h.status(ctx), call); path != nil {
			if r.Path = path; path.String() != shown {
				shown = path.String()
				p.ui.Note("The sound goes %s.", shown)
			}
		}
	}
	r.EndedBy = "here"
	for talking := true; talking; {
		select {
		case <-over:
			talking = false
			r.EndedBy = "far side"
		case <-look.C:
			ask()
		case <-end.C:
			talking = false
			ask()
		case <-ctx.Done():
			talking = false
			r.Interrupted = true
		}
	}
	r.TalkMS = millis(time.Since(began))
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), callFarewell)
	defer cancel()
	if err := call.Hangup(last); err != nil {
		p.ui.Warn("the other side may believe that the call goes on", "%v", err)
	}
	<-over
}

// short writes a duration as people say it: "10s", "1m30s".
func short(d time.Duration) string {
	s := d.Round(100 * time.Millisecond).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	return s
}
