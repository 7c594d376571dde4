package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a relay that runs.
type process struct {
	cmd  *exec.Cmd
	addr netip.AddrPort
	done chan struct{}
	dir  string
	said *bytes.Buffer // read after done
}

// errAbsent says that a relay is not installed.
var errAbsent = errors.New("turnserver is not installed (Debian: apt install coturn)")

// start starts a relay and waits until it can be asked.
func start(ctx context.Context, c Config, r Relay) (*process, error) {
	if r == Coturn {
		return startCoturn(ctx)
	}
	if c.Command == nil {
		return nil, errors.New("there is no command for our own relay")
	}
	path, args := c.Command(r)
	p := &process{cmd: exec.Command(path, args...)}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.begin(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		p.addr, err = netip.ParseAddrPort(strings.TrimSpace(line))
	}
	if err != nil {
		p.stop()
		return nil, fmt.Errorf("the relay %s did not start: %w %s", r, err, p.said)
	}
	go p.wait()
	return p, nil
}

func startCoturn(ctx context.Context) (*process, error) {
	path, err := exec.LookPath("turnserver")
	if err != nil {
		return nil, errAbsent
	}
	dir, err := os.MkdirTemp("", "p2psip-coturn")
	if err != nil {
		return nil, err
	}
	l, err := net.ListenPacket("udp4", "127.0.0.1:0") // a port that is free, now
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	addr := l.LocalAddr().(*net.UDPAddr).AddrPort()
	l.Close()
	p := &process{addr: addr, dir: dir, cmd: exec.Command(path, "-n", "-L", "127.0.0.1", "-E", "127.0.0.1", "-p", strconv.Itoa(int(addr.Port())),
		"-a", "-u", username+":"+password, "-r", realm, "--allow-loopback-peers", "--no-tls", "--no-dtls", "--no-cli", "--no-tcp", "--no-tcp-relay",
		"--no-stdout-log", "-l", "/dev/null", "--pidfile", filepath.Join(dir, "pid"), "--userdb", filepath.Join(dir, "db"))}
	p.cmd.Dir = dir
	if err := p.begin(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	go p.wait()
	if err := p.answers(ctx); err != nil {
		p.stop()
		return nil, fmt.Errorf("turnserver did not start: %w", err)
	}
	return p, nil
}

func (p *process) begin() error {
	p.done = make(chan struct{})
	p.said = &bytes.Buffer{}
	p.cmd.Stderr = p.said
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return p.cmd.Start()
}

func (p *process) wait() {
	_ = p.cmd.Wait()
	close(p.done)
}

// answers waits until a STUN binding request has been answered.
func (p *process) answers(ctx context.Context) error {
	c, err := net.Dial("udp4", p.addr.String())
	if err != nil {
		return err
	}
	defer c.Close()
	ask := []byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	b := make([]byte, 1500)
	for range 100 {
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := c.Write(ask); err == nil {
			if _, err := c.Read(b); err == nil {
				return nil
			}
		}
		select {
		case <-p.done:
			return errors.New("it has ended")
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return errors.New("it does not answer")
}

// stop ends the relay and waits for it.
func (p *process) stop() {
	_ = p.cmd.Process.Kill()
	if p.addr.IsValid() {
		<-p.done
	} else {
		_ = p.cmd.Wait()
	}
	if p.dir != "" {
		_ = os.RemoveAll(p.dir)
	}
}

// clockTick is what /proc counts processor time in: USER_HZ, 100 on every architecture that Go knows.
const clockTick = time.Second / 100

// cpu gives the processor time that the process has used.
func (p *process) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if !ok || len(f) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat says %q", p.cmd.Process.Pid, b)
	}
	user, err := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * clockTick, errors.Join(err, err2)
}

// rss gives the resident memory of the process in octets.
func (p *process) rss() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0, fmt.Errorf("/proc/%d/statm says %q", p.cmd.Process.Pid, b)
	}
	n, err := strconv.ParseInt(f[1], 10, 64)
	return n * int64(os.Getpagesize()), err
}
