package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"p2psip/cmd/p2psip/node"
)

// fleet is an overlay of node processes, made with the command line like anybody's. Node i speaks for user<i>, node 3 for
// alice too, nodes 8 and 9 for bob.
type fleet struct {
	t     *testing.T
	dir   string
	nodes []*process
}

// process is one `p2psip node`. Its ports are free ones at its first start and the same afterwards.
type process struct {
	f    *fleet
	i    int
	data string
	sip  string // "127.0.0.1:40000"
	addr string // for other nodes, without /p2p/
	id   string
	log  *safeBuffer
	cmd  *exec.Cmd
	done chan struct{}
}

const fleetOverlay = "p2psip.example"

// newFleet starts n nodes and waits until each of them knows another.
func newFleet(t *testing.T, n, copies int) *fleet {
	f := &fleet{t: t, dir: t.TempDir()}
	f.p2psip("overlay", "create", fleetOverlay, "--dir", f.dir+"/root", "--copies", fmt.Sprint(copies))
	for i := range n {
		p := &process{f: f, i: i, data: filepath.Join(f.dir, fmt.Sprint(i)), log: &safeBuffer{}}
		args := []string{"overlay", "issue", "--dir", f.dir + "/root", "--data", p.data, "--user", fmt.Sprintf("user%d", i)}
		switch i {
		case 3:
			args = append(args, "--user", "alice")
		case 8, 9:
			args = append(args, "--user", "bob")
		}
		f.p2psip(args...)
		f.nodes = append(f.nodes, p)
	}
	t.Cleanup(func() {
		for _, p := range f.nodes {
			p.end(syscall.SIGTERM)
			if t.Failed() {
				t.Logf("node %d:\n%s", p.i, p.log)
			}
		}
	})
	for _, p := range f.nodes {
		p.start()
	}
	for _, p := range f.nodes {
		p.wait("to join", func(s *node.Status) bool { return s.Joined && s.Table > 0 && len(s.Problems) == 0 })
	}
	return f
}

// p2psip runs one command that has to succeed and gives what it printed.
func (f *fleet) p2psip(args ...string) string {
	f.t.Helper()
	var errs bytes.Buffer
	cmd := exec.Command(binary, args...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		f.t.Fatalf("p2psip %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return string(out)
}

// start runs the node and waits until it answers.
func (p *process) start() {
	p.f.t.Helper()
	listen, sip := "/ip4/127.0.0.1/tcp/0", "127.0.0.1:0"
	if p.addr != "" {
		listen, sip = p.addr, p.sip
	}
	args := []string{"node", "--data", p.data, "--listen", listen, "--sip", sip, "--no-lan"}
	if p.i > 0 {
		args = append(args, "--bootstrap", p.f.nodes[0].addr+"/p2p/"+p.f.nodes[0].id)
	}
	p.cmd = exec.Command(binary, args...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	// A process of this test must not outlive it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		p.f.t.Fatal(err)
	}
	p.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) { cmd.Wait(); close(done) }(p.cmd, p.done)
	p.wait("to start", func(s *node.Status) bool {
		p.id = s.Node
		p.sip = s.SIP[0].Addr
		p.addr = strings.TrimSuffix(s.Addrs[0], "/p2p/"+s.Node)
		return true
	})
}

// end signals the node, if it still runs, and waits for its end.
func (p *process) end(sig syscall.Signal) {
	if p.done == nil {
		return
	}
	select {
	case <-p.done:
		return
	default:
	}
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.done:
	case <-time.After(15 * time.Second):
		p.f.t.Errorf("node %d does not end after %v", p.i, sig)
		_ = p.cmd.Process.Kill()
		<-p.done
		return
	}
	if code := p.cmd.ProcessState.ExitCode(); sig == syscall.SIGTERM && code != 0 {
		p.f.t.Errorf("node %d ended with exit code %d:\n%s", p.i, code, p.log)
	}
}

// wait asks for the node's status until ok says so.
func (p *process) wait(what string, ok func(*node.Status) bool) *node.Status {
	p.f.t.Helper()
	ctx, cancel := context.WithTimeout(p.f.t.Context(), 40*time.Second)
	defer cancel()
	var last error
	var s *node.Status
	for ctx.Err() == nil {
		res, err := node.Ask(ctx, p.data, node.Request{Do: "status"})
		if err == nil && res.Status != nil {
			if s = res.Status; ok(s) {
				return s
			}
		}
		if err != nil && ctx.Err() == nil {
			last = err
		}
		select {
		case <-p.done:
			p.f.t.Fatalf("node %d ended while the test waited for it %s:\n%s", p.i, what, p.log)
		case <-ctx.Done():
		case <-time.After(30 * time.Millisecond): // a poll, there is no event to wait for across processes
		}
	}
	p.f.t.Fatalf("node %d did not come %s: %v, status %+v\n%s", p.i, what, last, s, p.log)
	return nil
}

// settled waits until all nodes have forgotten all calls.
func (f *fleet) settled(nodes ...int) {
	f.t.Helper()
	for _, i := range nodes {
		s := f.nodes[i].wait("to rest", func(s *node.Status) bool { return len(s.Calls) == 0 })
		if s.Counters.Panics > 0 {
			f.t.Errorf("node %d survived %d faults", i, s.Counters.Panics)
		}
	}
}

// lookup asks a node for a user.
func (p *process) lookup(user string) (node.Found, error) {
	ctx, cancel := context.WithTimeout(p.f.t.Context(), 30*time.Second)
	defer cancel()
	res, err := node.Ask(ctx, p.data, node.Request{Do: "lookup", AOR: "sip:" + user + "@" + fleetOverlay})
	if res.Found == nil {
		return node.Found{}, errors.Join(err, errors.New("no record"))
	}
	return *res.Found, err
}

// safeBuffer is a log that a process writes and a test reads.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
