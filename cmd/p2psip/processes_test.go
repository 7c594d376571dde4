package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"p2psip/cmd/p2psip/node"
	"p2psip/interwork/phonetest"
)

const (
	alice = "sip:alice@" + fleetOverlay
	bob   = "sip:bob@" + fleetOverlay
	brief = 100 * time.Millisecond
)

// TestProcesses is ten nodes in ten processes, and phones that nobody of this project wrote: what the issue that began the
// project asks to be shown.
func TestProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("ten processes and a dozen phones take a minute")
	}
	phonetest.Need(t, "sipp")
	phonetest.Need(t, "baresip")
	f := newFleet(t, 10, 5) // with five copies there are nodes that have to look for a record
	t.Run("baresip is alice, SIPp is bob", func(t *testing.T) { f.calls(t, 3, alice, 8, bob) })
	t.Run("baresip is bob, SIPp is alice", func(t *testing.T) { f.calls(t, 8, bob, 3, alice) })
	t.Run("no such user, nobody there", f.refusals)
	t.Run("two phones, one node", func(t *testing.T) { f.twoPhones(t, 8, 8) })
	t.Run("two phones, two nodes", func(t *testing.T) { f.twoPhones(t, 8, 9) })
	t.Run("bob's node is killed", f.killed)
	t.Run("half of the storers are killed", f.storersKilled)
}

func callContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// must ends the test on an error that is named after what was done.
func must(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func register(t *testing.T, ctx context.Context, phone *phonetest.SIPp) {
	t.Helper()
	must(t, "register", phone.Register(ctx, time.Hour))
}

func (f *fleet) sipp(t *testing.T, at int, aor string) *phonetest.SIPp {
	return phonetest.NewSIPp(t, phonetest.SIPpConfig{AOR: aor, Proxy: f.nodes[at].sip})
}

func (f *fleet) baresip(t *testing.T, at int, aor string) *phonetest.Baresip {
	t.Helper()
	b := phonetest.StartBaresip(t, phonetest.BaresipConfig{AOR: aor, Proxy: f.nodes[at].sip, Expires: time.Hour})
	must(t, "register baresip", b.Register(callContext(t)))
	return b
}

// calls goes through what two phones do with one another: bareAOR is baresip's user, sippAOR SIPp's.
func (f *fleet) calls(t *testing.T, bareAt int, bareAOR string, sippAt int, sippAOR string) {
	bare, other := f.baresip(t, bareAt, bareAOR), f.sipp(t, sippAt, sippAOR)
	register(t, callContext(t), other)
	defer func() {
		ctx := callContext(t)
		must(t, "unregister SIPp", other.Unregister(ctx))
		must(t, "unregister baresip", bare.Unregister(ctx))
		f.nodes[bareAt].wait("to lose its phone", func(s *node.Status) bool { return len(s.Phones.Users) == 0 })
	}()
	incoming := func(t *testing.T, ctx context.Context) *phonetest.BaresipCall {
		t.Helper()
		call, err := bare.WaitIncoming(ctx)
		must(t, "baresip rings", err)
		return call
	}
	wait := func(t *testing.T, ctx context.Context, r *phonetest.Run) {
		t.Helper()
		must(t, "SIPp", r.Wait(ctx))
		f.settled(bareAt, sippAt)
	}
	for _, tc := range []struct {
		name string
		do   func(*testing.T, context.Context)
	}{
		{"baresip calls, holds, resumes, hangs up", func(t *testing.T, ctx context.Context) {
			run := other.Start(phonetest.Answer{Ring: brief})
			call := bare.Dial(ctx, sippAOR)
			must(t, "ringing", call.WaitRinging(ctx))
			must(t, "established", call.WaitEstablished(ctx))
			for _, i := range []int{bareAt, sippAt} {
				f.nodes[i].wait("to count the call", func(s *node.Status) bool { return len(s.Calls) == 1 })
			}
			must(t, "hold", call.Hold(ctx))
			must(t, "resume", call.Resume(ctx))
			must(t, "hang up", call.Hangup(ctx))
			wait(t, ctx, run)
		}},
		{"baresip calls, SIPp hangs up", func(t *testing.T, ctx context.Context) {
			run := other.Start(phonetest.Answer{HangUp: brief})
			call := bare.Dial(ctx, sippAOR)
			must(t, "established", call.WaitEstablished(ctx))
			_, err := call.WaitClosed(ctx)
			must(t, "closed", err)
			wait(t, ctx, run)
		}},
		{"SIPp calls, holds, resumes, hangs up", func(t *testing.T, ctx context.Context) {
			run := other.Start(phonetest.Call{To: bareAOR, HoldAfter: brief, HoldFor: brief, HangUp: brief})
			call := incoming(t, ctx)
			must(t, "accept", call.Accept(ctx))
			must(t, "held and resumed", call.WaitReoffer(ctx, 2))
			_, err := call.WaitClosed(ctx)
			must(t, "closed", err)
			wait(t, ctx, run)
		}},
		{"SIPp calls, baresip hangs up", func(t *testing.T, ctx context.Context) {
			run := other.Start(phonetest.Call{To: bareAOR})
			call := incoming(t, ctx)
			must(t, "accept", call.Accept(ctx))
			must(t, "hang up", call.Hangup(ctx))
			wait(t, ctx, run)
		}},
		{"baresip cancels", func(t *testing.T, ctx context.Context) {
			run := other.Start(phonetest.NoAnswer{})
			call := bare.Dial(ctx, sippAOR)
			must(t, "ringing", call.WaitRinging(ctx))
			must(t, "cancel", call.Hangup(ctx))
			wait(t, ctx, run)
		}},
		{"SIPp cancels", func(t *testing.T, ctx context.Context) {
			run := other.Start(phonetest.Cancel{To: bareAOR, Ring: brief})
			call := incoming(t, ctx)
			_, err := call.WaitClosed(ctx)
			must(t, "closed", err)
			wait(t, ctx, run)
		}},
		{"SIPp is busy", func(t *testing.T, ctx context.Context) {
			run := other.Start(phonetest.Refuse{})
			closed(t, ctx, bare.Dial(ctx, sippAOR), "486")
			wait(t, ctx, run)
		}},
		{"baresip is busy", func(t *testing.T, ctx context.Context) {
			run := other.Start(phonetest.Fail{To: bareAOR, Status: 486})
			must(t, "refuse", incoming(t, ctx).Hangup(ctx))
			wait(t, ctx, run)
		}},
		{"SIPp does not answer", func(t *testing.T, ctx context.Context) {
			run := other.Start(phonetest.Refuse{Status: 480, Ring: brief})
			closed(t, ctx, bare.Dial(ctx, sippAOR), "480")
			wait(t, ctx, run)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.do(t, callContext(t)) })
	}
}

// closed waits for the end of a call that was refused with a status.
func closed(t *testing.T, ctx context.Context, call *phonetest.BaresipCall, status string) {
	t.Helper()
	reason, err := call.WaitClosed(ctx)
	must(t, "closed", err)
	if !strings.HasPrefix(reason, status) {
		t.Errorf("the call ended with %q, want %s", reason, status)
	}
}

func (f *fleet) refusals(t *testing.T) {
	ctx := callContext(t)
	phone := f.sipp(t, 3, alice)
	register(t, ctx, phone)
	must(t, "unknown user", phone.Start(phonetest.Fail{To: "sip:nobody@" + fleetOverlay, Status: 404}).Wait(ctx))
	must(t, "bob is away", phone.Start(phonetest.Fail{To: bob, Status: 480}).Wait(ctx))
	var exit *exec.ExitError
	out, err := exec.Command(binary, "lookup", "--data", f.nodes[3].data, bob).Output()
	if !errors.As(err, &exit) || exit.ExitCode() != exitOffline || !strings.Contains(string(out), "the user has left this node") {
		t.Errorf("looking bob up: %v\n%s", err, out)
	}
	must(t, "another domain", phone.Start(phonetest.Fail{To: "sip:bob@other.example", Status: 404}).Wait(ctx))
	must(t, "unregister", phone.Unregister(ctx))
	// A user whom the node does not speak for is refused with a word.
	must(t, "a foreign user", f.sipp(t, 3, bob).Start(phonetest.Register{Expires: time.Hour, Status: 403}).Wait(ctx))
}

// twoPhones rings both of bob's phones, one at each node; baresip answers, and SIPp has to be told that it lost.
func (f *fleet) twoPhones(t *testing.T, bareAt, sippAt int) {
	ctx := callContext(t)
	first, second := f.baresip(t, bareAt, bob), f.sipp(t, sippAt, bob)
	register(t, ctx, second)
	caller := f.sipp(t, 3, alice)
	register(t, ctx, caller)

	loser := second.Start(phonetest.NoAnswer{})
	call := caller.Start(phonetest.Call{To: bob, HangUp: brief})
	_, err := loser.WaitReceived(ctx, "INVITE")
	must(t, "SIPp rings", err)
	in, err := first.WaitIncoming(ctx)
	must(t, "baresip rings", err)
	must(t, "accept", in.Accept(ctx))
	must(t, "the loser is cancelled", loser.Wait(ctx))
	must(t, "the caller", call.Wait(ctx))
	f.settled(3, bareAt, sippAt)

	must(t, "unregister the caller", caller.Unregister(ctx))
	must(t, "unregister SIPp", second.Unregister(ctx))
	must(t, "unregister baresip", first.Unregister(ctx))
	f.nodes[bareAt].wait("to lose its phone", func(s *node.Status) bool { return len(s.Phones.Users) == 0 })
}

// killed kills bob's node, which cannot say goodbye, and starts it again: bob's phone notices nothing and does nothing, and
// is called.
func (f *fleet) killed(t *testing.T) {
	ctx := callContext(t)
	phone, caller := f.sipp(t, 8, bob), f.sipp(t, 3, alice)
	register(t, ctx, phone)
	register(t, ctx, caller)
	f.nodes[8].end(syscall.SIGKILL)
	f.nodes[8].start()
	s := f.nodes[8].wait("to publish bob again", func(s *node.Status) bool {
		return s.Joined && len(s.Phones.Users) == 1 && s.Phones.Users[0].Published && len(s.Records) == 1 && s.Records[0].Error == ""
	})
	if len(s.Phones.Users[0].Phones) != 1 {
		t.Fatalf("bob has %d phones after the restart", len(s.Phones.Users[0].Phones))
	}
	answer := phone.Start(phonetest.Answer{Ring: brief})
	must(t, "call bob", caller.Start(phonetest.Call{To: bob, HangUp: brief}).Wait(ctx))
	must(t, "bob", answer.Wait(ctx))
	must(t, "unregister bob", phone.Unregister(ctx))
	must(t, "unregister alice", caller.Unregister(ctx))
}

// storersKilled kills half of the nodes that store bob's record at one moment, bob's own not among them; then somebody
// whose node does not store it calls bob.
func (f *fleet) storersKilled(t *testing.T) {
	ctx := callContext(t)
	phone := f.sipp(t, 8, bob)
	register(t, ctx, phone)
	f.nodes[8].wait("to have bob's record stored", func(s *node.Status) bool {
		return len(s.Records) == 1 && s.Records[0].Error == "" && s.Records[0].Devices == 1
	})
	var storers []int
	from, before := -1, node.Found{}
	for _, p := range f.nodes {
		found, err := p.lookup("bob")
		must(t, "lookup before", err)
		switch {
		case found.Hops == 0:
			storers = append(storers, p.i)
		case p.i != 8:
			from, before = p.i, found
		}
	}
	if from < 0 || len(storers) < 3 {
		t.Fatalf("the record is stored at %v: no test of a lookup", storers)
	}
	caller := f.sipp(t, from, fmt.Sprintf("sip:user%d@%s", from, fleetOverlay))
	register(t, ctx, caller)

	victims := slices.DeleteFunc(slices.Clone(storers), func(i int) bool { return i == 8 })
	victims = victims[:min((len(storers)+1)/2, len(victims))]
	for _, i := range victims {
		_ = f.nodes[i].cmd.Process.Signal(syscall.SIGKILL)
	}
	for _, i := range victims {
		<-f.nodes[i].done
	}
	answer := phone.Start(phonetest.Answer{Ring: brief})
	start := time.Now()
	must(t, "call bob", caller.Start(phonetest.Call{To: bob, HangUp: brief}).Wait(ctx))
	must(t, "bob", answer.Wait(ctx))
	took := time.Since(start)
	after, err := f.nodes[from].lookup("bob")
	must(t, "lookup after", err)
	t.Logf("stored at nodes %v, killed %v, node %d called; the call took %v, a lookup before %.1f ms (%d of %d nodes answered), after %.1f ms (%d of %d)",
		storers, victims, from, took.Round(time.Millisecond), before.First, before.Answered, before.Asked, after.First, after.Answered, after.Asked)
}
