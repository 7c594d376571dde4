package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// benchWindow is how many calls are under way at one time.
const benchWindow = 32

// pipe carries whole messages between one end of a benchmark and the proxy.
type pipe interface {
	send(b []byte) error
	receive() ([]byte, error) // valid until the next call
	local() string
	Close() error
}

// udpPipe talks to whoever has spoken last.
type udpPipe struct {
	*net.UDPConn
	far netip.AddrPort
	buf []byte
}

func (p *udpPipe) local() string { return p.LocalAddr().String() }

func (p *udpPipe) send(b []byte) error {
	_, err := p.WriteToUDPAddrPort(b, p.far)
	return err
}

func (p *udpPipe) receive() ([]byte, error) {
	_ = p.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, far, err := p.ReadFromUDPAddrPort(p.buf)
	p.far = far
	return p.buf[:n], err
}

func listenUDP(tb testing.TB) *udpPipe {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		tb.Fatal(err)
	}
	_ = c.SetReadBuffer(4 << 20)
	return &udpPipe{UDPConn: c, buf: make([]byte, 1<<16)}
}

// tcpPipe cuts the stream by Content-Length.
type tcpPipe struct {
	net.Conn
	in  *bufio.Reader
	buf []byte
}

func newTCPPipe(c net.Conn) *tcpPipe { return &tcpPipe{Conn: c, in: bufio.NewReaderSize(c, 1<<16)} }

func (p *tcpPipe) local() string { return p.LocalAddr().String() }

func (p *tcpPipe) send(b []byte) error {
	_, err := p.Write(b)
	return err
}

func (p *tcpPipe) receive() ([]byte, error) {
	_ = p.SetReadDeadline(time.Now().Add(10 * time.Second))
	p.buf = p.buf[:0]
	for !bytes.HasSuffix(p.buf, []byte("\r\n\r\n")) {
		line, err := p.in.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		p.buf = append(p.buf, line...)
	}
	n, err := strconv.Atoi(value(p.buf, "Content-Length"))
	if err != nil {
		return nil, err
	}
	head := len(p.buf)
	p.buf = append(p.buf, make([]byte, n)...)
	_, err = io.ReadFull(p.in, p.buf[head:])
	return p.buf, err
}

// value is the value of the first header of a name.
func value(m []byte, name string) string {
	line, _, _ := bytes.Cut(field(m, name), []byte("\r\n"))
	return strings.TrimSpace(strings.TrimPrefix(string(line), name+":"))
}

// callee answers what comes to it until its pipe is closed.
func callee(p pipe) {
	for {
		m, err := p.receive()
		if err != nil {
			return
		}
		switch {
		case bytes.HasPrefix(m, []byte("INVITE")):
			_ = p.send(uasReply(m, "180 Ringing", p.local()))
			_ = p.send(uasReply(m, "200 OK", p.local()))
		case bytes.HasPrefix(m, []byte("BYE")):
			_ = p.send(uasReply(m, "200 OK", p.local()))
		}
	}
}

// caller makes calls through a proxy. callee is where its peer is, as the caller learns from the Contact of a 200.
type caller struct {
	p         pipe
	transport string
	callee    string
	proxy     netip.AddrPort // for UDP
	serial    int
	outside   bool // of the overlay
}

func (c *caller) send(b []byte) {
	if u, ok := c.p.(*udpPipe); ok {
		u.far = c.proxy
	}
	_ = c.p.send(b)
}

// from puts the caller outside the overlay: what its calls learn of the callee is a GRUU.
func (c *caller) from(outside bool) *caller {
	if outside {
		c.outside, c.callee = true, "p2psip.example;gr=d"
	}
	return c
}

func (c *caller) invite() {
	c.serial++
	m := fmt.Appendf(nil, benchInvite, c.p.local(), c.serial, len(benchSDP), benchSDP, c.transport)
	if c.outside {
		m = bytes.Replace(m, []byte("<sip:alice@p2psip.example>"), []byte("<sip:alice@example.com>"), 1)
	}
	c.send(m)
}

// calls makes so many calls, benchWindow at a time, and waits for their ends.
func (c *caller) calls(total int) error {
	started, ended := 0, 0
	answered, over := make(map[string]bool), make(map[string]bool) // a slow machine makes the ends repeat themselves
	for ; started < min(benchWindow, total); started++ {
		c.invite()
	}
	for ended < total {
		m, err := c.p.receive()
		switch {
		case err != nil:
			return fmt.Errorf("after %d of %d calls: %w", ended, total, err)
		case bytes.HasPrefix(m, []byte("SIP/2.0 1")):
			continue
		case !bytes.HasPrefix(m, []byte("SIP/2.0 200")):
			return fmt.Errorf("after %d of %d calls came\n%s", ended, total, m)
		}
		id := strings.TrimSuffix(value(m, "Call-ID"), "@phone")
		if strings.HasSuffix(value(m, "CSeq"), "INVITE") {
			c.send(uacNext(m, "ACK", c.transport, "a"+id, c.p.local(), c.callee))
			if !answered[id] {
				answered[id] = true
				c.send(uacNext(m, "BYE", c.transport, "b"+id, c.p.local(), c.callee))
			}
			continue
		}
		if over[id] {
			continue
		}
		over[id] = true
		ended++
		if started < total {
			started++
			c.invite()
		}
	}
	return nil
}

// ends gives the caller and the callee of a benchmark. target is the callee's address, which a proxy under test has to be
// told; begin connects the caller to that proxy.
func ends(b testing.TB, network string) (target string, begin func(proxy netip.AddrPort) *caller) {
	var wg sync.WaitGroup
	b.Cleanup(wg.Wait)
	outside := strings.HasPrefix(network, "border")
	if !strings.HasSuffix(network, "tcp") {
		uas := listenUDP(b)
		b.Cleanup(func() { uas.Close() })
		wg.Go(func() { callee(uas) })
		return uas.local(), func(proxy netip.AddrPort) *caller {
			uac := listenUDP(b)
			b.Cleanup(func() { uac.Close() })
			c := &caller{p: uac, transport: "UDP", callee: uas.local(), proxy: proxy}
			return c.from(outside)
		}
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ln.Close() })
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			b.Cleanup(func() { c.Close() })
			wg.Go(func() { callee(newTCPPipe(c)) })
		}
	})
	return ln.Addr().String(), func(proxy netip.AddrPort) *caller {
		c, err := net.Dial("tcp4", proxy.String())
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close() })
		at := &caller{p: newTCPPipe(c), transport: "TCP", callee: ln.Addr().String()}
		return at.from(outside)
	}
}
