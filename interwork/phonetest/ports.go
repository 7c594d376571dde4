package phonetest

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A port given away is reserved until the test ends by a socket bound to it on reserveIP, an address no phone uses: the
// kernel then keeps two tests, of one test binary or of two running side by side, from giving away the same one before
// the phone has bound it.
const (
	phoneIP   = "127.0.0.1"
	reserveIP = "127.0.0.2"
)

// firstPort and lastPort are where ports are given away from: below those that systems give to whoever asks for any, so
// that no socket of another test takes one in the meantime, and below those for nodes' media.
const (
	firstPort = 10_000
	lastPort  = 19_999
)

// freePorts finds n consecutive ports, the first one even (RTP wants that), free on 127.0.0.1 for both UDP and TCP.
func freePorts(t testing.TB, n int) int {
	t.Helper()
	return portsAt(t, phoneIP, n)
}

// FreePort gives an address of a loopback host whose port is free for UDP and TCP, and is not given away again while the test
// runs.
func FreePort(t testing.TB, host string) netip.AddrPort {
	t.Helper()
	return netip.AddrPortFrom(netip.MustParseAddr(host), uint16(portsAt(t, host, 1)))
}

func portsAt(t testing.TB, host string, n int) int {
	t.Helper()
	for range 500 {
		first := (firstPort + rand.IntN(lastPort-firstPort-n)) &^ 1
		if held := reserve(host, first, n); held != nil {
			t.Cleanup(held)
			return first
		}
	}
	t.Fatalf("found no %d free ports in a row on %s", n, host)
	return 0
}

// reserve takes the ports, or returns nil if any of them is in use; the result gives them back.
func reserve(host string, first, n int) (release func()) {
	var held []net.PacketConn
	release = func() {
		for _, pc := range held {
			pc.Close()
		}
	}
	for p := first; p < first+n; p++ {
		pc, err := net.ListenPacket("udp4", net.JoinHostPort(reserveIP, strconv.Itoa(p)))
		if err != nil {
			release()
			return nil
		}
		held = append(held, pc)
		if !free(host, p) {
			release()
			return nil
		}
	}
	return release
}

func free(host string, port int) bool {
	addr := net.JoinHostPort(host, strconv.Itoa(port))
	pc, err := net.ListenPacket("udp", addr)
	if err != nil {
		return false
	}
	pc.Close()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	ln.Close()
	return true
}

// waitBound returns when some program has bound port on 127.0.0.1, or when gone is closed. The programs do not tell, and
// a probing message would disturb their scenario, so the kernel's table of sockets is read.
func waitBound(ctx context.Context, transport string, port int, gone <-chan struct{}) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		bound, err := isBound(transport, port)
		if err != nil || bound {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("nothing listens on %s 127.0.0.1:%d: %w", transport, port, context.Cause(ctx))
		case <-gone:
			return fmt.Errorf("it ended before it listened on %s 127.0.0.1:%d", transport, port)
		case <-tick.C:
		}
	}
}

// isBound looks for the port in the net/udp or, listening, the net/tcp of /proc/thread-self: this thread may be in a namespace of its own.
func isBound(transport string, port int) (bool, error) {
	b, err := os.ReadFile("/proc/thread-self/net/" + transport)
	if err != nil {
		return false, fmt.Errorf("read the table of sockets: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line) // sl local_address rem_address st …
		if len(f) < 4 || (transport == "tcp" && f[3] != "0A") {
			continue
		}
		addr, p, ok := strings.Cut(f[1], ":")
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(p, 16, 16)
		if err != nil || int(n) != port {
			continue
		}
		raw, err := hex.DecodeString(addr)
		if err != nil || len(raw) != 4 {
			continue
		}
		// The table shows the address as a number of the machine's byte order; 127.0.0.1 is 0100007F on most.
		switch netip.AddrFrom4([4]byte(raw)).String() {
		case phoneIP, "1.0.0.127", "0.0.0.0":
			return true, nil
		}
	}
	return false, nil
}
