package dnsreg

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"p2psip/overlay"
)

// A probe is an OPTIONS request (RFC 3261 §11) to the overlay's own identifier, as anybody outside would send one. It stays
// outside dialogs, needs no transaction layer, and of the response only the status and the Via header are read.

// Dial opens a connection, or a socket for UDP; net.Dialer.DialContext is one.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

const (
	maxResponse = 8 << 10
	// probeAgain is when a datagram is taken for lost (timer T1 of RFC 3261 §17.1.2).
	probeAgain = 500 * time.Millisecond
	userAgent  = "p2psip-dns"
	// padding makes a request over UDP larger than its response: who guards against being used to flood others with what is
	// larger than what came, as proxy peers do, may answer then as often as is asked.
	padding = 400
)

var (
	errNoResponse = errors.New("what came back is no response to the request")
	errTooLong    = errors.New("the response is too long")
)

// probe sends OPTIONS to an endpoint and waits for a response. An error says that the peer does not serve there.
func probe(ctx context.Context, dial Dial, oid overlay.ID, e Endpoint) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("fault: %v", p)
		}
	}()
	network := "tcp"
	if e.Transport == UDP {
		network = "udp"
	}
	conn, err := dial(ctx, network, e.Addr.String())
	if err != nil {
		return worded(ctx, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	local := conn.LocalAddr().String()
	if e.Transport == TLS {
		// Whether the certificate is good is between the peer and those who call; here it is asked whether it lives.
		c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: string(oid), MinVersion: tls.VersionTLS12})
		if err := c.HandshakeContext(ctx); err != nil {
			return worded(ctx, err)
		}
		conn = c
	}
	request, branch := optionsRequest(oid, e, local)
	if _, err := conn.Write(request); err != nil {
		return worded(ctx, err)
	}
	var status int
	if e.Transport == UDP {
		again := time.AfterFunc(probeAgain, func() { _, _ = conn.Write(request) })
		defer again.Stop()
		status, err = readDatagram(conn, branch)
	} else {
		status, err = readStream(conn, branch)
	}
	switch {
	case err != nil:
		return worded(ctx, err)
	case status >= 300:
		return fmt.Errorf("it answers with %d", status)
	}
	return nil
}

// worded says why a probe failed, in few words.
func worded(ctx context.Context, err error) error {
	var t net.Error
	if ctx.Err() != nil || errors.As(err, &t) && t.Timeout() {
		return errors.New("no answer in time")
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// optionsRequest makes the request, and gives the branch that its response is known by.
func optionsRequest(oid overlay.ID, e Endpoint, local string) (request []byte, branch string) {
	var b [24]byte
	rand.Read(b[:])
	branch = "z9hG4bK" + hex.EncodeToString(b[:12])
	scheme, via := "sip", strings.ToUpper(string(e.Transport))
	if e.Transport == TLS {
		scheme = "sips"
	}
	pad := ""
	if e.Transport == UDP {
		pad = "X-Padding: " + strings.Repeat("-", padding) + "\r\n"
	}
	host, rport := local, ";rport"
	if _, err := netip.ParseAddrPort(local); err != nil {
		host = "prober.invalid" // a test's pipe
	}
	return fmt.Appendf(nil, "OPTIONS %[1]s:%[2]s SIP/2.0\r\nVia: SIP/2.0/%[3]s %[4]s%[5]s;branch=%[6]s\r\nMax-Forwards: 70\r\n"+
		"From: <sip:%[4]s>;tag=%[7]s\r\nTo: <%[1]s:%[2]s>\r\nCall-ID: %[8]s\r\nCSeq: 1 OPTIONS\r\nContact: <sip:%[4]s>\r\nUser-Agent: %[9]s\r\n"+
		"Accept: application/sdp\r\n%[10]sContent-Length: 0\r\n\r\n",
		scheme, oid, via, host, rport, branch, hex.EncodeToString(b[12:16]), hex.EncodeToString(b[16:]), userAgent, pad), branch
}

// readDatagram waits for the final response in a datagram of its own.
func readDatagram(conn net.Conn, branch string) (int, error) {
	buf := make([]byte, maxResponse)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return 0, err
		}
		if status, ok := parseResponse(buf[:n], branch); ok && status >= 200 {
			return status, nil
		}
	}
}

// readStream waits for the final response on a connection. What has a body is read over it.
func readStream(conn net.Conn, branch string) (int, error) {
	var b []byte
	buf := make([]byte, 2048)
	for {
		if head, rest, whole := bytes.Cut(b, []byte("\r\n\r\n")); whole {
			status, ok := parseResponse(head, branch)
			if !ok {
				return 0, errNoResponse
			}
			if status >= 200 {
				return status, nil
			}
			b = rest // a provisional response has no body
			continue
		}
		if len(b) > maxResponse {
			return 0, errTooLong
		}
		n, err := conn.Read(buf)
		if b = append(b, buf[:n]...); err != nil && n == 0 {
			if errors.Is(err, io.EOF) {
				return 0, errors.New("it ends the connection")
			}
			return 0, err
		}
	}
}

// parseResponse reads the status of a response, if it has the branch in its topmost Via.
func parseResponse(b []byte, branch string) (status int, ok bool) {
	head, _, _ := strings.Cut(string(b[:min(len(b), maxResponse)]), "\r\n\r\n")
	line, head, _ := strings.Cut(head, "\r\n")
	code, isResponse := strings.CutPrefix(line, "SIP/2.0 ")
	if !isResponse || len(code) < 3 || len(code) > 3 && code[3] != ' ' {
		return 0, false
	}
	status, err := strconv.Atoi(code[:3])
	if err != nil || status < 100 || status > 699 {
		return 0, false
	}
	for head != "" {
		line, head, _ = strings.Cut(head, "\r\n")
		name, value, _ := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !strings.EqualFold(name, "Via") && !strings.EqualFold(name, "v") {
			continue
		}
		for p := range strings.SplitSeq(value, ";") {
			k, v, _ := strings.Cut(p, "=")
			if strings.EqualFold(strings.TrimSpace(k), "branch") {
				return status, strings.TrimSpace(v) == branch
			}
		}
		return 0, false
	}
	return 0, false
}
