package message

import (
	"strings"

	"github.com/emiago/sipgo/sip"
)

// memory is where the values of one message are put when it is read: the headers that nearly every message has in one
// piece, the others a few at a time. A message costs the collector a dozen objects that way, and not three for each header.
// The zero memory is ready; what came out of it lives as long as the message does.
type memory struct {
	usual   *usual
	vias    []sip.ViaHeader
	routes  []sip.RouteHeader
	records []sip.RecordRouteHeader
	params  []sip.HeaderKV
	guess   int // parameters still to be expected
}

// usual are the headers that a message has once.
type usual struct {
	from        sip.FromHeader
	to          sip.ToHeader
	contact     sip.ContactHeader // the first
	via         sip.ViaHeader     // the first
	cseq        sip.CSeqHeader
	callID      sip.CallIDHeader
	maxForwards sip.MaxForwardsHeader
	length      sip.ContentLengthHeader
}

// maxGuess bounds the parameters that are provided for in one piece.
const maxGuess = 16

// newMemory is for a message with the given header section: no semicolon, no parameter, except the one that the flow adds
// to the top Via.
func newMemory(head string) memory {
	return memory{usual: new(usual), guess: strings.Count(head, ";") + 1}
}

// take gives the next value of a piece, of which a new one has n values.
func take[T any](piece *[]T, n int) *T {
	if len(*piece) == 0 {
		*piece = make([]T, n)
	}
	v := &(*piece)[0]
	*piece = (*piece)[1:]
	return v
}

func (m *memory) via(first bool) *sip.ViaHeader {
	if first {
		return &m.usual.via
	}
	return take(&m.vias, 2)
}

// begin gives an empty list for parameters. The values appended to it follow each other in memory until end; in between
// no other list may be begun. A nil memory gives nil, and append does the rest.
func (m *memory) begin() sip.HeaderParams {
	if m == nil {
		return nil
	}
	if len(m.params) == 0 {
		n := min(max(m.guess, 2), maxGuess)
		m.guess -= n
		m.params = make([]sip.HeaderKV, n)
	}
	return sip.HeaderParams(m.params[:0])
}

// end fixes the length of a list from begin. It leaves room for spare more parameters, if there is any.
func (m *memory) end(p sip.HeaderParams, spare int) sip.HeaderParams {
	if len(p) == 0 {
		return nil
	}
	if m == nil || len(p) > len(m.params) {
		return p // it has moved
	}
	n := min(len(p)+spare, len(m.params))
	m.params = m.params[n:]
	return p[:len(p):n]
}
