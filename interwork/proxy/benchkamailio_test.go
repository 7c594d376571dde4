package proxy

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"p2psip/interwork/phonetest"
)

// kamailioConfig is a proxy that does for a call what a node does: it records its route, keeps transactions and forwards
// to the one phone there is. Like a node it has one process to receive on its one socket.
const kamailioConfig = `#!KAMAILIO
debug=0
log_stderror=yes
children=1
tcp_children=1
disable_tcp=%[4]s
auto_aliases=no
listen=%[3]s:%[1]s
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
request_route {
	if (!mf_process_maxfwd_header("70")) { sl_send_reply("483", "Too Many Hops"); exit; }
	if (has_totag()) {
		if (loose_route()) { t_relay(); exit; }
		if (is_method("ACK")) { if (t_check_trans()) { t_relay(); } exit; }
		sl_send_reply("404", "Not Found"); exit;
	}
	if (is_method("CANCEL")) { if (t_check_trans()) { t_relay(); } exit; }
	t_check_trans();
	record_route();
	$ru = "sip:bob@%[2]s;transport=%[3]s";
	t_relay();
}
`

// turn is how many calls go through one of the two before the other has its turn.
const turn = 2000

func benchKamailio(b *testing.B, network string) {
	path := phonetest.Need(b, "kamailio")
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		b.Skip("no /proc to read CPU times from")
	}
	target, begin := ends(b, network)
	n := startNode(b, network, target)
	k := startKamailio(b, path, target, strings.HasSuffix(network, "tcp"))
	ours, theirs := begin(n.addr), begin(k.addr)
	theirs.callee = target // it hides nobody's Contact, and believes what that says of the transport
	if strings.HasSuffix(network, "tcp") {
		theirs.callee += ";transport=tcp"
	}
	var us, them time.Duration
	measure := func(calls int) {
		cpu, _ := n.used()
		if err := ours.calls(calls); err != nil {
			b.Fatalf("through the node: %v", err)
		}
		cpu1, _ := n.used()
		us += cpu1 - cpu
		cpu = k.used(b)
		if err := theirs.calls(calls); err != nil {
			b.Fatalf("through Kamailio: %v", err)
		}
		them += k.used(b) - cpu
	}
	measure(warmUp)
	us, them = 0, 0
	b.ResetTimer()
	for left := b.N; left > 0; left -= turn {
		measure(min(left, turn))
	}
	b.StopTimer()
	b.ReportMetric(perCall(us, b.N), "cpu-µs/call")
	b.ReportMetric(perCall(them, b.N), "kamailio-cpu-µs/call")
	if them > 0 { // its times come in hundredths of a second
		b.ReportMetric(float64(us)/float64(them), "ours/kamailio")
	}
}

type kamailio struct {
	addr netip.AddrPort
	pid  int
}

func startKamailio(b *testing.B, path, target string, tcp bool) kamailio {
	transport, noTCP := "udp", "yes"
	if tcp {
		transport, noTCP = "tcp", "no"
	}
	spare := listenUDP(b)
	k := kamailio{addr: netip.MustParseAddrPort(spare.local())}
	spare.Close()
	dir := b.TempDir()
	config := filepath.Join(dir, "kamailio.cfg")
	if err := os.WriteFile(config, fmt.Appendf(nil, kamailioConfig, k.addr, target, transport, noTCP), 0o600); err != nil {
		b.Fatal(err)
	}
	var said bytes.Buffer
	// With its default allocator, which is made for finding faults, Kamailio takes three times as long.
	cmd := exec.Command(path, "-DD", "-E", "-f", config, "-Y", dir, "-w", dir, "-m", "1024", "-M", "16", "-x", "fm", "-X", "fm")
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	k.pid = cmd.Process.Pid
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	if tcp {
		for range 100 {
			if c, err := net.Dial("tcp4", k.addr.String()); err == nil {
				c.Close()
				return k
			}
			time.Sleep(20 * time.Millisecond) // until then its port is closed
		}
		b.Fatalf("Kamailio does not listen:\n%s", said.Bytes())
	}
	probe := listenUDP(b)
	defer probe.Close()
	for range 100 {
		_, _ = probe.WriteToUDPAddrPort(fmt.Appendf(nil, "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKp;rport\r\nMax-Forwards: 0\r\n"+
			"From: <sip:a@x>;tag=1\r\nTo: <sip:x>\r\nCall-ID: probe\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n", probe.local()), k.addr)
		_ = probe.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := probe.Read(probe.buf); err == nil {
			return k
		}
		time.Sleep(20 * time.Millisecond) // until then its port is closed
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Wait()
	b.Fatalf("Kamailio does not answer:\n%s", said.Bytes())
	return k
}

// used is the CPU time of Kamailio's processes so far: utime and stime of /proc/pid/stat (proc(5)), in ticks of 10 ms.
func (k kamailio) used(b *testing.B) (cpu time.Duration) {
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		b.Fatal(err)
	}
	own := fmt.Sprintf("/proc/%d/stat", k.pid)
	for _, p := range paths {
		stat, err := os.ReadFile(p)
		if err != nil {
			continue // it has ended
		}
		// pid (name) state ppid … utime stime: the name may have any character
		f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(f) < 13 || p != own && f[1] != strconv.Itoa(k.pid) {
			continue
		}
		for _, s := range f[11:13] {
			ticks, err := strconv.Atoi(s)
			if err != nil {
				b.Fatalf("%s says %q", p, stat)
			}
			cpu += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return cpu
}
