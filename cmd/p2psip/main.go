package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// The first signal asks for an orderly end; after it the default behaviour is back, so that a second one ends the
	// process whatever it is doing.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	code := newProgram(newUI(os.Stdin, os.Stdout, os.Stderr)).run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
