package media

import (
	"errors"
	"io"
	"net"
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
