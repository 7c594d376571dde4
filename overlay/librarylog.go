package overlay

import (
	"log/slog"

	golog "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/gologshim"
)

// SilenceLibraries turns the logging of libp2p and kad-dht off for the whole process. Both write a line for what a
// stranger does wrong, so a stranger could fill a volunteer's disk; what a node's owner should know is said by this
// package. Programs call it once, before anything else.
func SilenceLibraries() {
	gologshim.SetDefaultHandler(slog.DiscardHandler)
	golog.SetAllLoggers(golog.LevelFatal)
}
