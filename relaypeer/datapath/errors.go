package datapath

import "errors"

// ErrClosed says that the Loop has been closed.
var ErrClosed = errors.New("the relay's data path is closed")

// ErrNoAddress says that the relay has no address of the family that a client asked for.
var ErrNoAddress = errors.New("no relayed address of that family")

// ErrNoPort says that no port in the range was free.
var ErrNoPort = errors.New("no port of the relay's range is free")

var errNotTURN = errors.New("the stream goes on with neither STUN nor ChannelData")
