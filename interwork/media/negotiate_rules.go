package media

// judge says whether a description is an offer or an answer (RFC 3264 §4, RFC 3261 §13.2.1, RFC 3262 §5, RFC 3311 §5.1,
// tabulated in RFC 6337 §2.2). It changes nothing.
func (d *talk) judge(msg Message) (offer bool, err error) {
	open := d.last != nil && !d.last.answered
	switch {
	case msg.Status != 0:
		return d.judgeResponse(msg, open)
	case msg.Method == "ACK":
		if open && d.last.by != msg.From {
			return false, nil
		}
		return false, &Refusal{488, "a description in an ACK that answers nothing"}
	case msg.Method == "PRACK" && open && d.last.by != msg.From:
		return false, nil // of an offer in a reliable provisional response
	case open && d.last.by == msg.From:
		return false, &Refusal{500, "an offer before the last one was answered"} // RFC 3311 §5.2
	case open:
		return false, &Refusal{491, "an offer that crosses one of the other side"}
	}
	return true, nil
}

func (d *talk) judgeResponse(msg Message, open bool) (offer bool, err error) {
	starter := msg.From.Other()
	switch {
	case open && d.last.by == starter && d.last.starter == starter && d.last.method == msg.Method &&
		sameTransaction(d.last.cseq, msg.CSeq):
		return false, nil
	case msg.Method != "INVITE":
		return false, &Refusal{488, "a description in a response that answers nothing"}
	case d.late && d.lateBy == starter && (!open || d.last.by == msg.From):
		// The offer of an INVITE without one. It may come in a provisional response without PRACK as well, as a sign of what
		// the 2xx will say, and then once more (RFC 6337 §2.3).
		return true, nil
	case d.last != nil && d.last.by == starter && d.last.method == "INVITE" && sameTransaction(d.last.cseq, msg.CSeq):
		// The answer again, or another one: the 2xx counts, and the newest 18x before it.
		return false, nil
	}
	return false, &Refusal{488, "a description that was overtaken by a newer one"}
}

// silent takes note of a message without a description that makes sense.
func (d *talk) silent(msg Message) {
	if msg.Method == "INVITE" && msg.Status == 0 {
		d.late, d.lateBy = true, msg.From
		return
	}
	x := d.last
	if x == nil || x.by == msg.From || !sameTransaction(x.cseq, msg.CSeq) || msg.Status > 0 && msg.Status < 200 ||
		msg.Status == 0 && msg.Method != "ACK" || msg.Status != 0 && msg.Method != x.method {
		return
	}
	if !x.answered { // that was the last chance; the session goes on as it was
		d.heard, d.last = x.before, nil
	}
}

func sameTransaction(a, b uint32) bool { return a == 0 || b == 0 || a == b }
