package interwork

import (
	"context"
	"errors"
	"time"

	"p2psip/overlay"
)

// Status is what a SIP caller is told about an error.
type Status struct {
	Code       int           // SIP status
	Reason     string        // reason phrase
	RetryAfter time.Duration // for the Retry-After header (RFC 3261 §20.33); 0: none
}

// retryAfter is what a caller is asked to wait when the overlay cannot be reached: about as long as a node needs to find
// its neighbours again.
const retryAfter = 30 * time.Second

// statuses is the one table from errors to SIP statuses. The first entry that errors.Is finds wins.
var statuses = []struct {
	err error
	Status
}{
	{overlay.ErrUnknownUser, Status{404, "Not Found", 0}},
	{overlay.ErrOffline, Status{480, "Temporarily Unavailable", 0}},
	{overlay.ErrNotEntitled, Status{403, "Forbidden", 0}},
	{overlay.ErrBadAOR, Status{404, "Not Found", 0}},
	{overlay.ErrBadID, Status{404, "Not Found", 0}},
	{overlay.ErrUnreachable, Status{503, "Overlay Unreachable", retryAfter}},
	{overlay.ErrNoQuorum, Status{503, "Overlay Unreachable", retryAfter}},
	{overlay.ErrClosed, Status{503, "Service Unavailable", retryAfter}},
	{context.DeadlineExceeded, Status{503, "Overlay Unreachable", retryAfter}},
	{context.Canceled, Status{503, "Service Unavailable", retryAfter}},
}

// StatusOf maps an error to a SIP status. An error that the table does not know is a fault of this node: 500. A nil error
// gives 200.
func StatusOf(err error) Status {
	if err == nil {
		return Status{200, "OK", 0}
	}
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			return s.Status
		}
	}
	return Status{500, "Server Internal Error", 0}
}
