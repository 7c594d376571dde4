//go:build unix

package media

import (
	"errors"
	"syscall"
)

func isAddressUnknown(err error) bool { return errors.Is(err, syscall.EADDRNOTAVAIL) }
