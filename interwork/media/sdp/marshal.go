package sdp

import "strconv"

// Marshal writes the description, each line with CRLF.
func (s *Session) Marshal() []byte {
	b := make([]byte, 0, 1024)
	b = appendLines(b, s.Lines)
	for _, m := range s.Media {
		b = append(b, "m="...)
		b = append(b, m.Kind...)
		b = append(b, ' ')
		b = strconv.AppendUint(b, uint64(m.Port), 10)
		if m.Ports > 1 {
			b = append(b, '/')
			b = strconv.AppendInt(b, int64(m.Ports), 10)
		}
		b = append(b, ' ')
		b = append(b, m.Proto...)
		for _, f := range m.Formats {
			b = append(b, ' ')
			b = append(b, f...)
		}
		if len(m.Formats) == 0 {
			b = append(b, " 0"...) // the grammar wants one
		}
		b = append(b, "\r\n"...)
		b = appendLines(b, m.Lines)
	}
	return b
}

func appendLines(b []byte, lines []Line) []byte {
	for _, l := range lines {
		b = append(b, l.Key, '=')
		b = append(b, l.Value...)
		b = append(b, "\r\n"...)
	}
	return b
}
