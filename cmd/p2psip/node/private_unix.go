//go:build unix

package node

import (
	"io/fs"
	"os"
	"syscall"
)

// owned says whether a file belongs to the user of this process.
func owned(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Getuid()
}
