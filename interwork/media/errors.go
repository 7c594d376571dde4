package media

import (
	"errors"
	"io"
	"net"
	"net/netip"
)

var errNoSession = errors.New("media: no call with that token is anchored here")

// errSessionOver: the session ended while something was done for it.
var errSessionOver = errors.New("media: the call is over")

// readAgain says that a socket lives on after an error: the system tells its reader of packets that others could not
// receive. failures counts how often in a row.
func readAgain(err error, failures *int) bool {
	*failures++
	return !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) && *failures < 100
}

// readPackets reads a socket until it is closed. What take is given is free again when it returns.
func readPackets(read func([]byte) (int, netip.AddrPort, error), take func(b []byte, from netip.AddrPort)) {
	buf, failures := make([]byte, maxPacket+1), 0
	for {
		n, from, err := read(buf)
		if err != nil {
			if readAgain(err, &failures) {
				continue
			}
			return
		}
		failures = 0
		if n > 0 && n <= maxPacket {
			take(buf[:n], from)
		}
	}
}
