package result

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// Write writes a run as JSON: keys in the order of the types, numbers in one form only, rows of numbers on one line. The same
// run always gives the same bytes.
func Write(w io.Writer, r *Run) error { return writeJSON(w, r) }

// Write writes a comparison as JSON, in the same form.
func (c *Comparison) Write(w io.Writer) error { return writeJSON(w, c) }

func writeJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("writing the result as JSON: %w", err)
	}
	_, err := w.Write(indent(b.Bytes()))
	return err
}

// indent lays compact JSON out: two spaces for each level, a line for each member; a list without lists or objects in it
// stays on one line.
func indent(compact []byte) []byte {
	out := make([]byte, 0, len(compact)+len(compact)/2)
	depth := 0
	newline := func() {
		out = append(out, '\n')
		for range depth {
			out = append(out, ' ', ' ')
		}
	}
	flat := false // inside a list that stays on one line
	for i := 0; i < len(compact); i++ {
		c := compact[i]
		switch {
		case c == '"':
			end := stringEnd(compact, i)
			out = append(out, compact[i:end]...)
			i = end - 1
		case (c == '{' || c == '[') && i+1 < len(compact) && compact[i+1] == c+2: // '{' and '}', '[' and ']' are 2 apart
			out = append(out, c, c+2)
			i++
		case c == '{', c == '[' && !isFlat(compact[i+1:]):
			out = append(out, c)
			depth++
			newline()
		case c == '[':
			out = append(out, c)
			flat = true
		case c == ']' && flat:
			out = append(out, c)
			flat = false
		case c == '}', c == ']':
			depth--
			newline()
			out = append(out, c)
		case c == ',' && flat:
			out = append(out, ',', ' ')
		case c == ',':
			out = append(out, ',')
			newline()
		case c == ':':
			out = append(out, ':', ' ')
		default:
			out = append(out, c)
		}
	}
	return out
}

// isFlat tells whether a list has neither lists nor objects in it; b begins behind its bracket.
func isFlat(b []byte) bool {
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = stringEnd(b, i) - 1
		case '[', '{':
			return false
		case ']':
			return true
		}
	}
	return false
}

// stringEnd gives the index behind the string that begins at i.
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}
