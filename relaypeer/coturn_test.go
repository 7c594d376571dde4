package relaypeer

import (
	"context"
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"p2psip/interwork/phonetest"
)

var (
	lostPackets = regexp.MustCompile(`Total lost packets (-?\d+) `)
	sentPackets = regexp.MustCompile(`tot_send_msgs=(\d+), tot_recv_msgs=(\d+)`)
)

// uclient runs coturn's client against the relay peer and wants every packet back.
func uclient(t *testing.T, name string, args ...string) {
	user, pass := secret.Issue(newMember(t), time.Now().Add(time.Hour))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "turnutils_uclient", append([]string{"-u", user, "-w", pass}, args...)...).CombinedOutput()
	text := string(out)
	lost := lostPackets.FindAllStringSubmatch(text, -1)
	sent := sentPackets.FindAllStringSubmatch(text, -1)
	if err != nil || len(lost) == 0 || lost[len(lost)-1][1] != "0" || len(sent) == 0 {
		t.Errorf("%s: %v\n%s", name, err, text)
		return
	}
	last := sent[len(sent)-1]
	if last[1] != last[2] || last[1] == "0" {
		t.Errorf("%s: %s sent, %s came back", name, last[1], last[2])
	}
	for line := range strings.Lines(text) {
		// It tries versions of TLS that nobody should speak, and with -G binds channels of the wrong family.
		if strings.Contains(line, "rror") && !strings.Contains(line, "alert protocol version") && !strings.Contains(line, "error 443") {
			t.Errorf("%s: it complains: %s", name, line)
		}
	}
}

// startPeer runs coturn's echoing peer on loopback until the test ends.
func startPeer(t *testing.T, at string) (port string) {
	t.Helper()
	path := phonetest.Need(t, "turnutils_peer")
	c, err := net.ListenPacket("udp", net.JoinHostPort(at, "0"))
	if err != nil {
		t.Fatal(err)
	}
	port = strconv.Itoa(c.LocalAddr().(*net.UDPAddr).Port)
	c.Close()
	cmd := exec.Command(path, "-L", at, "-p", port)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	eventually(t, "the peer echoes", func() bool {
		c, err := net.Dial("udp", net.JoinHostPort(at, port))
		if err != nil {
			return false
		}
		defer c.Close()
		_, _ = c.Write([]byte("are you there?"))
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		_, err = c.Read(make([]byte, 100))
		return err == nil
	})
	return port
}

// TestCoturnsClient has coturn's turnutils_uclient use the relay peer in all the ways it knows.
func TestCoturnsClient(t *testing.T) {
	t.Parallel() // it waits, most of the time
	phonetest.Need(t, "turnutils_uclient")
	w := newWorld(t, nil)
	peer, peer6 := startPeer(t, "127.0.0.1"), startPeer(t, "::1")
	port := func(s string) string { return s[strings.LastIndexByte(s, ':')+1:] }
	udp, udp6, tcp, tls := port(w.udp.String()), port(w.udp6.String()), port(w.tcp.String()), port(w.tls.String())
	all := map[string][]string{}
	for name, args := range map[string][]string{
		"udp":                       {"-c", "-m", "4", "-n", "20", "-p", udp, "-e", "127.0.0.1", "-r", peer, "127.0.0.1"},
		"udp, send indications":     {"-c", "-s", "-m", "4", "-n", "20", "-p", udp, "-e", "127.0.0.1", "-r", peer, "127.0.0.1"},
		"udp, more requests":        {"-c", "-G", "-m", "2", "-n", "20", "-p", udp, "-e", "127.0.0.1", "-r", peer, "127.0.0.1"},
		"udp, client to client":     {"-c", "-y", "-m", "4", "-n", "20", "-p", udp, "127.0.0.1"},
		"udp, large":                {"-c", "-l", "1200", "-m", "2", "-n", "20", "-p", udp, "-e", "127.0.0.1", "-r", peer, "127.0.0.1"},
		"udp, padded channels":      {"-c", "-D", "-l", "101", "-m", "2", "-n", "20", "-p", udp, "-e", "127.0.0.1", "-r", peer, "127.0.0.1"},
		"tcp":                       {"-t", "-c", "-m", "4", "-n", "20", "-p", tcp, "-e", "127.0.0.1", "-r", peer, "127.0.0.1"},
		"tcp, send indications":     {"-t", "-s", "-c", "-m", "2", "-n", "20", "-p", tcp, "-e", "127.0.0.1", "-r", peer, "127.0.0.1"},
		"tls":                       {"-t", "-S", "-c", "-m", "4", "-n", "20", "-p", tls, "-e", "127.0.0.1", "-r", peer, "127.0.0.1"},
		"udp over IPv6, to IPv4":    {"-c", "-m", "2", "-n", "20", "-p", udp6, "-e", "127.0.0.1", "-r", peer, "::1"},
		"udp over IPv6, to IPv6":    {"-c", "-x", "-m", "2", "-n", "20", "-p", udp6, "-e", "::1", "-r", peer6, "::1"},
		"udp, IPv4 asked for":       {"-c", "-X", "-m", "2", "-n", "20", "-p", udp, "-e", "127.0.0.1", "-r", peer, "127.0.0.1"},
		"tcp, relayed IPv6 to IPv6": {"-t", "-c", "-x", "-m", "2", "-n", "20", "-p", tcp, "-e", "::1", "-r", peer6, "127.0.0.1"},
	} {
		if testing.Short() && strings.Contains(name, ",") {
			continue
		}
		all[name] = args
	}
	var wg sync.WaitGroup
	for name, args := range all { // all at once: most of the time is the client's waiting
		wg.Go(func() { uclient(t, name, args...) })
	}
	wg.Wait()
	if s := w.Status(); s.Panics > 0 {
		t.Errorf("%+v", s)
	}
}
