package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
)

// warmUp is how many calls are made before anything is measured.
const warmUp = 200

// benchNode measures a node in a process of its own.
func benchNode(b *testing.B, network string) {
	target, begin := ends(b, network)
	n := startNode(b, network, target)
	c := begin(n.addr)
	if err := c.calls(warmUp); err != nil {
		b.Fatal(err)
	}
	cpu, allocs := n.used()
	b.ResetTimer()
	if err := c.calls(b.N); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	cpu1, allocs1 := n.used()
	b.ReportMetric(perCall(cpu1-cpu, b.N), "cpu-µs/call")
	b.ReportMetric(float64(allocs1-allocs)/float64(b.N), "allocs/call")
}

func perCall(d time.Duration, calls int) float64 {
	return float64(d.Nanoseconds()) / 1000 / float64(calls)
}

// nodeProcess is a node in a process of its own.
type nodeProcess struct {
	b     *testing.B
	addr  netip.AddrPort
	stdin io.WriteCloser
	lines *bufio.Scanner
}

// startNode starts one whose only phone is at target.
func startNode(b *testing.B, network, target string) *nodeProcess {
	cmd := exec.Command(os.Args[0], "-test.run=^TestBenchProxyProcess$")
	cmd.Env = append(os.Environ(), "P2PSIP_BENCH_NODE="+network+" "+target)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait()
	})
	n := &nodeProcess{b: b, stdin: stdin, lines: bufio.NewScanner(stdout)}
	n.lines.Scan()
	if n.addr, err = netip.ParseAddrPort(strings.TrimSpace(n.lines.Text())); err != nil {
		b.Fatalf("the node says %q", n.lines.Text())
	}
	return n
}

// used gives the CPU time and the allocations of the node's process so far.
func (n *nodeProcess) used() (cpu time.Duration, allocs uint64) {
	fmt.Fprintln(n.stdin, "now")
	n.lines.Scan()
	if _, err := fmt.Sscan(n.lines.Text(), &cpu, &allocs); err != nil {
		n.b.Fatalf("the node says %q", n.lines.Text())
	}
	return cpu, allocs
}

// TestBenchProxyProcess is the node of BenchmarkCall. It prints its address, then for every line on its input what it has
// used so far: CPU time in nanoseconds and allocations.
func TestBenchProxyProcess(t *testing.T) {
	network, target, ok := strings.Cut(os.Getenv("P2PSIP_BENCH_NODE"), " ")
	if !ok {
		t.Skip("started by BenchmarkCall only")
	}
	addr, _ := runNode(t, network, target)
	fmt.Println(addr)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var ru syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
			t.Fatal(err)
		}
		var ms runtime.MemStats
		runtime.ReadMemStats(&ms)
		fmt.Println(ru.Utime.Nano()+ru.Stime.Nano(), ms.Mallocs)
	}
}

// runNode runs a node with one socket until the test ends. Its only phone is at target; over TCP it connects to it.
func runNode(t *testing.T, network, target string) (netip.AddrPort, *Core) {
	remote := netip.MustParseAddrPort(target)
	sockets := &Listeners{}
	f := &fixed{sockets: sockets, target: Target{Q: 1000, ID: "d",
		URI: sip.Uri{Scheme: "sip", User: "bob", Host: remote.Addr().String(), Port: int(remote.Port())}}}
	switch network {
	case "border":
		return runBorder(t, f, sockets, remote)
	case "border-tcp":
		return runBorderTCP(t, f, sockets, remote)
	case "udp":
		pc := listenUDP(t)
		local := pc.LocalAddr().(*net.UDPAddr).AddrPort()
		core := benchCore(t, f, flow.AddrFrom(local))
		t.Cleanup(core.Close)
		u := flow.ListenUDP(pc.UDPConn, core.Layer(), flow.Options{})
		t.Cleanup(func() { u.Close() })
		sockets.AddUDP(u)
		f.reached(u.To(remote))
		return local, core
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	local := ln.Addr().(*net.TCPAddr).AddrPort()
	core := benchCore(t, f, flow.AddrFrom(local))
	t.Cleanup(core.Close)
	s := flow.ListenTCP(ln, core.Layer(), flow.Options{})
	t.Cleanup(func() { s.Close() })
	sockets.AddStream(s)
	to, err := s.Dial(context.Background(), flow.AddrFrom(remote))
	if err != nil {
		t.Fatal(err)
	}
	f.reached(to)
	return local, core
}

// TestCallsOverSockets makes the benchmark's calls, many at a time, and counts what is left of them. Over TCP the node has
// opened the connection to the callee: what it stamps for that side has to be the port it listens at.
func TestCallsOverSockets(t *testing.T) {
	for _, network := range []string{"udp", "tcp", "border", "border-tcp"} {
		t.Run(network, func(t *testing.T) {
			target, begin := ends(t, network)
			addr, core := runNode(t, network, target)
			if err := begin(addr).calls(200); err != nil {
				t.Fatal(err)
			}
			if st := core.Stats(); st.Calls != 0 || st.Transactions.Panics+st.Panics+st.Strays != 0 || st.Forwarded != 2*200 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// runBorder runs a proxy peer with one public socket and one for its only phone.
func runBorder(t *testing.T, f *fixed, sockets *Listeners, remote netip.AddrPort) (netip.AddrPort, *Core) {
	inner, outer := listenUDP(t), listenUDP(t)
	at := outer.LocalAddr().(*net.UDPAddr).AddrPort()
	border := &openBorder{}
	core := benchCore(t, f, flow.AddrFrom(inner.LocalAddr().(*net.UDPAddr).AddrPort()))
	core.cfg.Border = border
	core.cfg.Public = []PublicAddr{{flow.AddrFrom(at), flow.AddrFrom(at)}}
	core.own = newOwn(&core.cfg)
	t.Cleanup(core.Close)
	u := flow.ListenUDP(inner.UDPConn, core.Layer(), flow.Options{})
	t.Cleanup(func() { u.Close() })
	sockets.AddUDP(u)
	f.reached(u.To(remote))
	border.udp = flow.ListenUDP(outer.UDPConn, core.Layer(), flow.Options{Public: true})
	t.Cleanup(func() { border.udp.Close() })
	return at, core
}

// runBorderTCP is runBorder over TCP.
func runBorderTCP(t *testing.T, f *fixed, sockets *Listeners, remote netip.AddrPort) (netip.AddrPort, *Core) {
	listen := func() (net.Listener, flow.Addr) {
		ln, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return ln, flow.AddrFrom(ln.Addr().(*net.TCPAddr).AddrPort())
	}
	inner, here := listen()
	outer, at := listen()
	core := benchCore(t, f, here)
	core.cfg.Border = &openBorder{}
	core.cfg.Public = []PublicAddr{{at, at}}
	core.own = newOwn(&core.cfg)
	t.Cleanup(core.Close)
	s := flow.ListenTCP(inner, core.Layer(), flow.Options{})
	t.Cleanup(func() { s.Close() })
	sockets.AddStream(s)
	to, err := s.Dial(context.Background(), flow.AddrFrom(remote))
	if err != nil {
		t.Fatal(err)
	}
	f.reached(to)
	public := flow.ListenTCP(outer, core.Layer(), flow.Options{Public: true})
	t.Cleanup(func() { public.Close() })
	return outer.Addr().(*net.TCPAddr).AddrPort(), core
}

// openBorder lets everybody in and nobody out.
type openBorder struct{ udp *flow.UDP }

func (*openBorder) Enter(context.Context, flow.Flow, *sip.Request) error { return nil }
func (*openBorder) Hops(context.Context, sip.Uri, flow.Flow, *sip.Request) ([]Hop, error) {
	return nil, io.EOF
}
func (*openBorder) Living(Hop) (flow.Flow, bool)                 { return nil, false }
func (*openBorder) Open(context.Context, Hop) (flow.Flow, error) { return nil, io.EOF }
func (*openBorder) Tried(Hop, error)                             {}
func (*openBorder) Answered(flow.Flow, sip.RequestMethod, int)   {}
func (o *openBorder) Back(e Endpoint) (flow.Flow, bool) {
	ap, ok := e.Remote.AddrPort()
	if !ok || o.udp == nil {
		return nil, false
	}
	return o.udp.To(ap), true
}
