package sdp

import (
	"slices"
	"strings"
)

// attribute splits an a= line into name and value ("rtpmap:0 PCMU/8000", "sendonly"). Names differ in case only by
// mistake, so they come out in small letters. The name of another line is "".
func (l Line) attribute() (name, value string) {
	if l.Key != 'a' {
		return "", ""
	}
	name, value, _ = strings.Cut(l.Value, ":")
	return strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
}

// find gives the value of the first attribute of that name.
func find(lines []Line, name string) (string, bool) {
	for _, l := range lines {
		if n, v := l.attribute(); n == name {
			return v, true
		}
	}
	return "", false
}

// values gives the values of all attributes of that name, in order.
func values(lines []Line, name string) []string {
	var all []string
	for _, l := range lines {
		if n, v := l.attribute(); n == name {
			all = append(all, v)
		}
	}
	return all
}

// without drops the attributes that drop names.
func without(lines []Line, drop func(name string) bool) []Line {
	return slices.DeleteFunc(lines, func(l Line) bool {
		name, _ := l.attribute()
		return name != "" && drop(name)
	})
}

// Attribute gives the value of the session part's first a= line of that name (in small letters), and whether there is one.
func (s *Session) Attribute(name string) (string, bool) { return find(s.Lines, name) }

// Attributes gives the values of all of them.
func (s *Session) Attributes(name string) []string { return values(s.Lines, name) }

// RemoveAttribute drops all of them.
func (s *Session) RemoveAttribute(name string) {
	s.Lines = without(s.Lines, func(n string) bool { return n == name })
}

// Attribute gives the value of the stream's first a= line of that name (in small letters), and whether there is one. The
// session part is not looked at.
func (m *Media) Attribute(name string) (string, bool) { return find(m.Lines, name) }

// Attributes gives the values of all of them.
func (m *Media) Attributes(name string) []string { return values(m.Lines, name) }

// RemoveAttribute drops all of them.
func (m *Media) RemoveAttribute(name string) {
	m.Lines = without(m.Lines, func(n string) bool { return n == name })
}

// AddAttribute appends a=name, or a=name:value where value is not empty.
func (m *Media) AddAttribute(name, value string) {
	if value != "" {
		name += ":" + value
	}
	m.Lines = append(m.Lines, Line{'a', name})
}

// inherited is an attribute that the session part says for all streams that say nothing of their own.
func (m *Media) inherited(name string) (string, bool) {
	if v, ok := find(m.Lines, name); ok || m.session == nil {
		return v, ok
	}
	return find(m.session.Lines, name)
}
