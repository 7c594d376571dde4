package interwork

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"p2psip/overlay"
)

func TestStatusOf(t *testing.T) {
	for _, c := range []struct {
		err   error
		code  int
		retry bool
	}{
		{nil, 200, false},
		{overlay.ErrUnknownUser, 404, false},
		{fmt.Errorf("look up sip:bob@p2psip.example: %w", overlay.ErrOffline), 480, false},
		{fmt.Errorf("put: %w", overlay.ErrNotEntitled), 403, false},
		{fmt.Errorf("%w: %w", overlay.ErrUnreachable, context.DeadlineExceeded), 503, true},
		{overlay.ErrNoQuorum, 503, true},
		{context.DeadlineExceeded, 503, true},
		{errors.New("disk full"), 500, false},
	} {
		s := StatusOf(c.err)
		if s.Code != c.code || (s.RetryAfter > 0) != c.retry || s.Reason == "" {
			t.Errorf("%v gives %+v", c.err, s)
		}
	}
}
