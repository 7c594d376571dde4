package sdp

// Direction says which way a stream flows, seen from whoever wrote the description (RFC 3264 §5.1).
type Direction struct{ Send, Recv bool }

// The four directions.
var (
	SendRecv = Direction{true, true}
	SendOnly = Direction{Send: true}
	RecvOnly = Direction{Recv: true}
	Inactive = Direction{}
)

// String is the attribute's name.
func (d Direction) String() string {
	switch d {
	case SendRecv:
		return "sendrecv"
	case SendOnly:
		return "sendonly"
	case RecvOnly:
		return "recvonly"
	}
	return "inactive"
}

// Reverse is d as the other side sees it.
func (d Direction) Reverse() Direction { return Direction{Send: d.Recv, Recv: d.Send} }

// Within is what is left of d when the other side has offered o (RFC 3264 §6.1).
func (d Direction) Within(o Direction) Direction {
	return Direction{Send: d.Send && o.Recv, Recv: d.Recv && o.Send}
}

func direction(name string) (Direction, bool) {
	switch name {
	case "sendrecv":
		return SendRecv, true
	case "sendonly":
		return SendOnly, true
	case "recvonly":
		return RecvOnly, true
	case "inactive":
		return Inactive, true
	}
	return Direction{}, false
}

// Direction is that of the stream, else that of the session part, else sendrecv.
func (m *Media) Direction() Direction {
	sections := [][]Line{m.Lines}
	if m.session != nil {
		sections = append(sections, m.session.Lines)
	}
	for _, lines := range sections {
		for _, l := range lines {
			name, _ := l.attribute()
			if d, ok := direction(name); ok {
				return d
			}
		}
	}
	return SendRecv
}

// SetDirection writes the stream's own direction, in the place of the one that stands there.
func (m *Media) SetDirection(d Direction) {
	for i, l := range m.Lines {
		name, _ := l.attribute()
		if _, ok := direction(name); ok {
			m.Lines[i].Value = d.String()
			return
		}
	}
	m.AddAttribute(d.String(), "")
}
