package message

import (
	"fmt"
	"hash/fnv"
	"strconv"
)

// Error is a message refused.
type Error struct {
	// Status is the SIP status to answer with. 0 means: say nothing (a broken response, an ACK, not SIP at all).
	Status int
	// Reason is what was wrong, and the reason phrase of the answer. It never contains anything the sender chose.
	Reason string
	// Fatal reports that the framing of a stream is lost: the connection has to be closed.
	Fatal bool
	// Size is how many bytes the refused message had, so that an answer can be kept smaller than its cause.
	Size int

	fields []field // what could be read of the header section
}

func (e *Error) Error() string {
	if e.Status == 0 {
		return "sip message dropped: " + e.Reason
	}
	return fmt.Sprintf("sip message refused: %d %s", e.Status, e.Reason)
}

// Reply returns the stateless error response in wire form (RFC 3261 §8.2.6, §8.2.7), built from what could be salvaged of
// Via, From, To, Call-ID and CSeq. It is nil when nothing is to be said or when there is no Via to find the way back.
// The To tag is a function of the request, so that a retransmission gets the same answer.
func (e *Error) Reply() []byte {
	if e.Status == 0 {
		return nil
	}
	var via []string
	var first [hdrCount]string
	for i := range e.fields {
		f := &e.fields[i]
		if f.id == hdrVia {
			via = append(via, f.value)
		} else if first[f.id] == "" {
			first[f.id] = f.value
		}
	}
	if len(via) == 0 {
		return nil
	}
	var b []byte
	b = append(b, "SIP/2.0 "...)
	b = strconv.AppendInt(b, int64(e.Status), 10)
	b = append(b, ' ')
	b = append(b, e.Reason...)
	b = append(b, "\r\n"...)
	line := func(name, value string) {
		if value != "" {
			b = append(b, name...)
			b = append(b, ": "...)
			b = append(b, value...)
			b = append(b, "\r\n"...)
		}
	}
	for _, v := range via {
		line("Via", v)
	}
	line("From", first[hdrFrom])
	to := first[hdrTo]
	if to != "" && !tagged(to) {
		h := fnv.New64a()
		h.Write([]byte(via[0]))
		h.Write([]byte(first[hdrCallID]))
		h.Write([]byte(first[hdrFrom]))
		to += ";tag=" + strconv.FormatUint(h.Sum64(), 36)
	}
	line("To", to)
	line("Call-ID", first[hdrCallID])
	line("CSeq", first[hdrCSeq])
	return append(b, "Content-Length: 0\r\n\r\n"...)
}

// tagged reports that a To has a tag, or is too broken to be given one.
func tagged(to string) bool {
	a, rest, f := readAddress(nil, to)
	return f != nil || rest != "" || a.params.Has("tag")
}

// fault is what the reading functions of this package return: a status and a reason, before it is known whether the
// message is a request that may be answered.
type fault struct {
	status int
	reason string
}

func (f *fault) Error() string { return f.reason }

// bad is a fault of status 400.
func bad(reason string) *fault { return &fault{400, reason} }
