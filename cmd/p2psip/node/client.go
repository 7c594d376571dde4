package node

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
)

// ErrNotRunning: nobody answers on the control socket of the data directory.
var ErrNotRunning = errors.New("no node is running")

// ErrNoAnswer: the node runs but did not answer in time.
var ErrNoAnswer = errors.New("the node does not answer")

// remoteError is an error that a running node told of.
type remoteError struct {
	text string
	kind error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.kind }

// ended words the end of a context while the node was asked.
func ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ErrNoAnswer
	}
	return ctx.Err()
}

// Ask puts one question to the node that runs with a data directory. An error of the node's is given as errors.Is knows
// it here, together with what the response holds.
func Ask(ctx context.Context, dir string, req Request) (Response, error) {
	path, err := controlPath(dir)
	if err != nil {
		return Response{}, err
	}
	if err := private(filepath.Dir(path), dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Response{}, err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		if ctx.Err() != nil {
			return Response{}, ended(ctx)
		}
		return Response{}, fmt.Errorf("%w with the data directory %s", ErrNotRunning, dir)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := json.NewEncoder(conn).Encode(req); err != nil {
		return Response{}, fmt.Errorf("asking the node: %w", err)
	}
	in := bufio.NewScanner(conn)
	in.Buffer(nil, maxResponse)
	if !in.Scan() {
		if ctx.Err() != nil {
			return Response{}, ended(ctx)
		}
		return Response{}, fmt.Errorf("%w: it ended while it was asked", ErrNotRunning)
	}
	var res Response
	if err := json.Unmarshal(in.Bytes(), &res); err != nil {
		return Response{}, fmt.Errorf("the node's answer cannot be read (is it of another version?): %w", err)
	}
	if res.Error != "" {
		return res, &remoteError{res.Error, kinds[res.Kind]}
	}
	return res, nil
}
