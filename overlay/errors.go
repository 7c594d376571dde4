package overlay

import "errors"

// What a lookup or a publication may end in. interwork/status.go turns them into SIP statuses, cmd/p2psip into exit codes
// and hints.
var (
	// ErrUnknownUser: the nodes responsible for the user answered, and none holds a record.
	ErrUnknownUser = errors.New("no such user in the overlay")
	// ErrOffline: there is a record, but no device in it is registered now.
	ErrOffline = errors.New("the user has no device registered at present")
	// ErrUnreachable: this node reaches no other node, or too few answered to tell.
	ErrUnreachable = errors.New("the overlay cannot be reached")
	// ErrNoQuorum: too few nodes confirmed storing a record.
	ErrNoQuorum = errors.New("too few nodes confirmed storing the record")
	// ErrNotEntitled: the credential does not cover the user or the role.
	ErrNotEntitled = errors.New("the credential does not entitle to this")
	// ErrClosed: the node is shutting down.
	ErrClosed = errors.New("the node is closed")
)
