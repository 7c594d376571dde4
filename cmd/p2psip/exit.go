package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"p2psip/cmd/p2psip/node"
	"p2psip/interwork/account"
	"p2psip/interwork/edge"
	"p2psip/interwork/phone/audio"
	"p2psip/overlay"
	"p2psip/overlay/datadir"
	"p2psip/proxypeer/policy"
)

// Exit codes. They are documented by `p2psip help exit-codes` and in the README.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnknown     = 3
	exitOffline     = 4
	exitUnreachable = 5
	exitNotRunning  = 6
	exitUnwell      = 7
	exitBusy        = 8
	exitNoAnswer    = 9
	exitDeclined    = 10
	exitNoMedia     = 11
)

var exitCodes = []struct {
	code    int
	meaning string
}{
	{exitOK, "it worked"},
	{exitFailed, "it failed; the message says why"},
	{exitUsage, "the command line is wrong"},
	{exitUnknown, "lookup, call: there is no such user"},
	{exitOffline, "lookup, call: the user exists, but no phone is registered now"},
	{exitUnreachable, "the overlay cannot be reached"},
	{exitNotRunning, "status, lookup, call, echo: no node is running with this data directory"},
	{exitUnwell, "status: the node runs, but something is wrong"},
	{exitBusy, "call: the other side is busy"},
	{exitNoAnswer, "call: nobody answered"},
	{exitDeclined, "call: it was declined, or is not allowed"},
	{exitNoMedia, "call: it was answered, but nothing was heard"},
}

// errUsage is wrapped by every error about the command line itself.
var errUsage = errors.New("wrong usage")

// usageError is an error about the command line.
type usageError struct{ text string }

func (e *usageError) Error() string   { return e.text }
func (e *usageError) Is(t error) bool { return t == errUsage }

func usagef(format string, a ...any) error { return &usageError{fmt.Sprintf(format, a...)} }

// hintError is an error that brings its own hint.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

// withHint attaches what to do about an error; nil stays nil.
func withHint(err error, format string, a ...any) error {
	if err == nil {
		return nil
	}
	return &hintError{err, fmt.Sprintf(format, a...)}
}

// silentError ends the program with a code after everything has been said.
type silentError struct{ code int }

func (e *silentError) Error() string { return fmt.Sprintf("exit %d", e.code) }

// outcomes is the one table from errors to exit codes and hints. The first entry that errors.Is finds wins; a hint that
// the error brings along goes before the one here.
var outcomes = []struct {
	err  error
	code int
	hint string
}{
	{errUsage, exitUsage, "p2psip help"},
	{overlay.ErrUnknownUser, exitUnknown, "check the spelling; a user exists from the first time a phone of theirs registers"},
	{overlay.ErrOffline, exitOffline, "the user's phone has to register with its node"},
	{overlay.ErrUnreachable, exitUnreachable, "p2psip status tells how the node stands"},
	{overlay.ErrNoQuorum, exitUnreachable, "p2psip status tells how the node stands"},
	{node.ErrNotRunning, exitNotRunning, "start it with: p2psip node, and name its directory with --data if it is not the usual one"},
	{node.ErrNoAnswer, exitFailed, "end it and start it again; its log may tell what holds it up"},
	{node.ErrNoDocument, exitFailed, "set the node up with: p2psip node init --overlay overlay.json"},
	{node.ErrNoCredential, exitFailed, "ask whoever runs the overlay for a credential, then: p2psip node install FILE"},
	{datadir.ErrLocked, exitFailed, "a node is running there; stop it first, or give this one a directory of its own with --data"},
	{policy.ErrBadFile, exitFailed, "mend the file; p2psip federation check --file FILE sip:carol@example.com tells whether it is good"},
	{overlay.ErrBadID, exitFailed, "an overlay is named like a domain: p2psip.example"},
	{overlay.ErrBadAOR, exitFailed, "a user is written like sip:bob@p2psip.example"},
	{overlay.ErrBadDocument, exitFailed, "get the file anew from whoever runs the overlay; p2psip overlay show checks it"},
	{overlay.ErrBadCredential, exitFailed, "get a new credential from whoever runs the overlay, made for this node (p2psip node id)"},
	{edge.ErrUserExists, exitFailed, "to change the password, remove the user and add it again"},
	{edge.ErrNoUser, exitFailed, "p2psip user list shows the users"},
	{account.ErrExists, exitFailed, "to change it, remove the account and add it again"},
	{account.ErrNoAccount, exitFailed, "p2psip account list shows the accounts"},
	{account.ErrFile, exitFailed, "mend the file, or move it away and add the accounts again"},
	{account.ErrBadAccount, exitFailed, "p2psip account add --help"},
	{errBusy, exitBusy, "try again later"},
	{errNoAnswer, exitNoAnswer, "try again later; --ring lets it ring longer"},
	{errDeclined, exitDeclined, "the phone there, or the node, does not take this call; p2psip federation check tells about calls that leave the overlay"},
	{errNoMedia, exitNoMedia, "a firewall may hold the sound back; p2psip status tells how the node stands"},
	{errCodec, exitFailed, "this phone speaks PCMU and PCMA; --codec may have left one out"},
	{errSilent, exitNotRunning, "p2psip status tells whether a node is running, and where it takes phones"},
	{errPassword, exitFailed, "p2psip user list tells who has a password; p2psip user add makes one"},
	{audio.ErrWav, exitFailed, "sox in.wav -r 8000 -c 1 -b 16 out.wav brings a file into shape"},
	{fs.ErrNotExist, exitFailed, "check the path"},
	{fs.ErrPermission, exitFailed, "the file or directory belongs to somebody else, or is not open to you"},
	{context.Canceled, exitFailed, ""},
}

// outcome gives the exit code and the hint for an error.
func outcome(err error) (code int, hint string) {
	var silent *silentError
	if errors.As(err, &silent) {
		return silent.code, ""
	}
	code = exitFailed
	for _, o := range outcomes {
		if errors.Is(err, o.err) {
			code, hint = o.code, o.hint
			break
		}
	}
	var h *hintError
	if errors.As(err, &h) {
		hint = h.hint
	}
	return code, hint
}
