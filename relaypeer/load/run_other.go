//go:build !linux

package load

import (
	"context"
	"errors"
)

// Run needs Linux.
func Run(context.Context, Config) (*Result, error) {
	return nil, errors.New("measuring a relay needs Linux: its /proc, and time stamps on packets")
}
