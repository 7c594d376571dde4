//go:build !unix

package media

func isAddressUnknown(error) bool { return false }
