//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"p2psip/cmd/p2psip/node"
)

// labKinds are the kinds of homes, by their routers; see natlab/lab.sh.
var labKinds = []string{"full", "addr", "port", "sym", "noudp"}

// labOverlay is an overlay of the lab's machines: pub1 knows everybody, pub2 to pub4 are relay peers, and in each home
// there is a node with a user of the home's name.
type labOverlay struct {
	lab   *natLab
	dir   string
	first string // where the others join
	nodes map[string]*labNode
}

// labNode is one `p2psip node` in a namespace.
type labNode struct {
	name string // "full1", as its namespace
	data string
	log  *safeBuffer
	cmd  *exec.Cmd
	done chan struct{}
}

func (l *natLab) overlay(t *testing.T) *labOverlay {
	t.Helper()
	var homes []string
	for _, k := range append([]string{"lan", "hair", "bald"}, labKinds...) {
		homes = append(homes, k+"1", k+"2")
	}
	o := &labOverlay{lab: l, dir: t.TempDir(), nodes: map[string]*labNode{}}
	o.run(t, "overlay", "create", fleetOverlay, "--dir", o.dir+"/root")
	o.start(t, "pub1")
	first := o.wait(t, "pub1", "to start", func(s *node.Status) bool { return true })
	o.first = "/ip4/45.1.0.10/tcp/5080/p2p/" + first.Node
	for i := 2; i <= 4; i++ {
		at := fmt.Sprintf("45.%d.0.10", i)
		o.start(t, fmt.Sprintf("pub%d", i), "--bootstrap", o.first,
			"--relay", "udp:"+at+":3478", "--relay", "tcp:"+at+":3478", "--relay", "tls:"+at+":443")
	}
	for i := 2; i <= 4; i++ {
		o.wait(t, fmt.Sprintf("pub%d", i), "to be advertised", func(s *node.Status) bool { return s.Relay.Adverts > 0 })
	}
	for _, h := range homes {
		o.start(t, h, "--bootstrap", o.first)
	}
	for _, h := range homes {
		o.wait(t, h, "to join, to be reached through others, and to know relay peers", func(s *node.Status) bool {
			return s.Joined && s.Table > 0 && len(s.Through) > 1 && len(s.Relays) > 1
		})
	}
	for _, h := range homes {
		if strings.HasSuffix(h, "2") {
			o.echo(t, h)
		}
	}
	return o
}

func (o *labOverlay) run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(binary, args...).CombinedOutput(); err != nil {
		t.Fatalf("p2psip %q: %v\n%s", args, err, out)
	}
}

// start starts the node of a machine; what it needs for it is made at the first time.
func (o *labOverlay) start(t *testing.T, name string, args ...string) *labNode {
	t.Helper()
	n := &labNode{name: name, data: filepath.Join(o.dir, name), log: &safeBuffer{}}
	if o.nodes[name] == nil {
		issue := []string{"overlay", "issue", "--dir", o.dir + "/root", "--data", n.data, "--user", name}
		if slices.Contains(args, "--relay") {
			issue = append(issue, "--role", "relay")
		}
		o.run(t, issue...)
	}
	o.nodes[name] = n
	args = append([]string{"netns", "exec", o.lab.name + "-" + name, binary, "node", "--data", n.data, "--listen", "/ip4/0.0.0.0/tcp/5080", "--sip", "127.0.0.1:5060", "--no-lan", "--verbose"}, args...)
	n.cmd = exec.Command("ip", args...)
	n.cmd.Stdout, n.cmd.Stderr = n.log, n.log
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n.done = make(chan struct{})
	go func() { _ = n.cmd.Wait(); close(n.done) }()
	t.Cleanup(func() {
		_ = n.cmd.Process.Kill()
		<-n.done
		if t.Failed() {
			t.Logf("%s:\n%s", name, n.log)
		}
	})
	return n
}

// status asks a node how it stands; nil if it does not say.
func (o *labOverlay) status(name string) *node.Status {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	res, err := node.Ask(ctx, o.nodes[name].data, node.Request{Do: "status"})
	if err != nil {
		return nil
	}
	return res.Status
}

func (o *labOverlay) wait(t *testing.T, name, what string, ok func(*node.Status) bool) *node.Status {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if s := o.status(name); s != nil && ok(s) {
			return s
		}
	}
	t.Fatalf("%s: in vain waited for it %s: %+v\n%s", name, what, o.status(name), o.nodes[name].log)
	return nil
}

// echo has the user of a home answer every call with an echo, and waits until the overlay knows.
func (o *labOverlay) echo(t *testing.T, name string) {
	t.Helper()
	cmd := exec.Command("ip", "netns", "exec", o.lab.name+"-"+name, binary, "echo", "--data", o.nodes[name].data, "--allow", "*", "--json")
	said := &safeBuffer{}
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the echo of %s:\n%s", name, said)
		}
	})
	o.wait(t, name, "to have a phone that others find", func(s *node.Status) bool {
		return len(s.Phones.Users) == 1 && s.Phones.Users[0].Published && len(s.Phones.Users[0].Phones) > 0
	})
}

// labCall is what became of a call.
type labCall struct {
	callReport
	err   error
	media *node.CallMedia // as the caller's node tells in the middle of the call
}

// call has a home's user call another's echo. during, if given, is called once with the way that the sound takes.
func (o *labOverlay) call(from, to string, talk time.Duration, during func(*node.CallMedia), args ...string) *labCall {
	ctx, cancel := context.WithTimeout(context.Background(), talk+40*time.Second)
	defer cancel()
	args = append([]string{"netns", "exec", o.lab.name + "-" + from, binary, "call", to, "--data", o.nodes[from].data, "--for", talk.String(), "--json"}, args...)
	cmd := exec.CommandContext(ctx, "ip", args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	r := &labCall{}
	var wg sync.WaitGroup
	quit := make(chan struct{})
	wg.Go(func() {
		for {
			if s := o.status(from); s != nil {
				for _, c := range s.Calls {
					if c.Media == nil || c.Media.Path == "" {
						continue
					}
					if r.media = c.Media; during != nil {
						during(r.media)
						during = nil
					}
				}
			}
			select {
			case <-quit:
				return
			case <-time.After(300 * time.Millisecond):
			}
		}
	})
	err := cmd.Run()
	close(quit)
	wg.Wait()
	if e := json.Unmarshal(out.Bytes(), &r.callReport); e != nil {
		r.err = fmt.Errorf("%w: %w\n%s", err, e, said.Bytes())
	} else if err != nil {
		r.err = errors.New(strings.TrimSpace(said.String()))
	}
	return r
}

func (r *labCall) String() string {
	if r.err != nil {
		return fmt.Sprintf("%s: %v", r.Outcome, r.err)
	}
	path := "?"
	if r.media != nil {
		path = r.media.Path + " " + r.media.Encrypted
		for _, s := range r.media.Streams {
			path += fmt.Sprintf(" (%s to %s %s)", s.Local, s.RemoteType, s.Remote)
		}
	}
	return fmt.Sprintf("answered %.0f ms, first sound %.0f ms, %d sent, %d received, %d lost, gap %.0f ms, %s", r.AnsweredMS, r.AudioMS, r.Sent, r.Received, r.Lost, r.GapMS, path)
}

// labPath is the path that a pair of homes is expected to take: straight where one lets the other's checks in (RFC 5128 §3.3),
// and through a relay peer where none does.
func labPath(a, b string) string {
	switch {
	case a == "noudp" || b == "noudp":
		return "relayed"
	case a == "sym" && (b == "sym" || b == "port"), b == "sym" && a == "port":
		return "relayed"
	}
	return "reflexive"
}

// pairs has somebody in each kind of home call somebody in each.
func (o *labOverlay) pairs(t *testing.T) {
	var first []float64
	for _, a := range labKinds {
		for _, b := range labKinds {
			t.Run(a+" calls "+b, func(t *testing.T) {
				r := o.call(a+"1", b+"2", 3*time.Second, nil)
				t.Log(r)
				if r.err != nil {
					t.Fatal(r.err)
				}
				first = append(first, r.AudioMS)
				want := labPath(a, b)
				if r.media == nil || r.media.Path != want && !(want == "reflexive" && r.media.Path == "host" && r.media.Streams[0].RemoteType != "relay") || r.media.Encrypted != "node to node" {
					t.Errorf("the path was not %s", want)
				}
				if r.AudioMS == 0 || r.Lost > r.Sent/20 {
					t.Errorf("the sound was not heard well")
				}
			})
		}
	}
	if slices.Sort(first); len(first) > 0 {
		t.Logf("%d calls; first sound after p50 %.0f ms, p95 %.0f ms", len(first), first[len(first)/2], first[len(first)*95/100])
	}
	for i := 2; i <= 4; i++ {
		if s := o.status(fmt.Sprintf("pub%d", i)); s != nil {
			t.Logf("pub%d relayed %d octets", i, s.Relay.Month)
		}
	}
}
