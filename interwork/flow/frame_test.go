package flow

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func TestFrameErrors(t *testing.T) {
	for name, c := range map[string]struct {
		in   []byte
		want error
	}{
		"end":                    {nil, io.EOF},
		"inside the header":      {[]byte{0, 0}, io.ErrUnexpectedEOF},
		"before the payload":     {[]byte{0, 0, 0, 2, 1}, io.ErrUnexpectedEOF},
		"inside the payload":     {[]byte{0, 0, 0, 2, 1, 'x'}, io.ErrUnexpectedEOF},
		"too large":              {[]byte{0, 1, 0, 1, 1}, ErrFrame},
		"far too large":          {[]byte{255, 255, 255, 255, 1}, ErrFrame},
		"keep-alive with text":   {[]byte{0, 0, 0, 1, 0, 'x'}, ErrFrame},
		"type not defined":       {[]byte{0, 0, 0, 0, 2}, ErrFrame},
		"last type not defined":  {[]byte{0, 0, 0, 0, 127}, ErrFrame},
		"type to ignore":         {[]byte{0, 0, 0, 1, 128, 'x'}, nil},
		"keep-alive":             {[]byte{0, 0, 0, 0, 0}, nil},
		"message":                {[]byte{0, 0, 0, 1, 1, 'x'}, nil},
		"largest":                {AppendFrame(nil, FrameMessage, make([]byte, MaxFrame)), nil},
		"largest, one too short": {AppendFrame(nil, FrameMessage, make([]byte, MaxFrame))[:MaxFrame+4], io.ErrUnexpectedEOF},
	} {
		if _, _, err := ReadFrame(bytes.NewReader(c.in), nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestFrameMemory: a length is no reason to allocate; octets are.
func TestFrameMemory(t *testing.T) {
	_, payload, err := ReadFrame(bytes.NewReader([]byte{0, 1, 0, 0, 1, 'x'}), nil)
	if err != io.ErrUnexpectedEOF || cap(payload) > 8<<10 {
		t.Errorf("%v with %d octets allocated", err, cap(payload))
	}
}

// FuzzFrame: what is read is what was written, however it arrives, and everything else ends the reading.
func FuzzFrame(f *testing.F) {
	f.Add(AppendFrame(AppendFrame(nil, FrameKeepAlive, nil), FrameMessage, request(1)))
	f.Add(AppendFrame(nil, 200, []byte("later")))
	f.Add([]byte{0, 1, 0, 0, 1})
	f.Add([]byte{0, 0, 0, 0, 2})
	f.Add([]byte{255, 255, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		whole, pieces := bytes.NewReader(b), iotest.OneByteReader(bytes.NewReader(b))
		var buf, buf2, again []byte
		for {
			kind, payload, err := ReadFrame(whole, buf)
			kind2, payload2, err2 := ReadFrame(pieces, buf2)
			if kind != kind2 || (err == nil) != (err2 == nil) || err == nil && !bytes.Equal(payload, payload2) {
				t.Fatalf("whole %d %q %v, in pieces %d %q %v", kind, payload, err, kind2, payload2, err2)
			}
			if err != nil {
				if err == io.EOF && len(again) != len(b) {
					t.Fatalf("%d octets read of %d", len(again), len(b))
				}
				break
			}
			if len(payload) > MaxFrame || kind > FrameMessage && kind < frameIgnore {
				t.Fatalf("frame of type %d with %d octets", kind, len(payload))
			}
			again = AppendFrame(again, kind, payload)
			buf, buf2 = payload, payload2
		}
		if !bytes.HasPrefix(b, again) {
			t.Fatalf("read %q from %q", again, b)
		}
	})
}
