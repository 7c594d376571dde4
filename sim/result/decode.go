package result

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// ErrBad is wrapped by every error about a result that cannot be believed.
var ErrBad = errors.New("not a simulation's result")

// Read reads a run from JSON: of this format, with no unknown key, nothing behind it and everything within bounds. The
// error wraps ErrBad when the file is at fault.
func Read(r io.Reader) (*Run, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading the result: %w", err)
	}
	if len(b) > MaxFile {
		return nil, fmt.Errorf("%w: larger than %d MiB", ErrBad, MaxFile>>20)
	}
	return Parse(b)
}

// Parse is Read for bytes.
func Parse(b []byte) (*Run, error) {
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBad, err)
	}
	if version.Format != Format {
		return nil, fmt.Errorf("%w: its format is %d, this program reads %d", ErrBad, version.Format, Format)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	run := new(Run)
	if err := d.Decode(run); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBad, err)
	}
	if err := run.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBad, err)
	}
	return run, nil
}
