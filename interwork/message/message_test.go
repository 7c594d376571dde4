package message

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/emiago/sipgo/sip"
)

// with returns a good INVITE in which lines of the header section are replaced, by name, removed (value ""), or added.
func with(lines ...string) []byte {
	good := []string{"INVITE sip:bob@p2psip.example SIP/2.0", "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK776",
		"Max-Forwards: 70", "From: Alice <sip:alice@p2psip.example>;tag=88sja8x", "To: Bob <sip:bob@p2psip.example>",
		"Call-ID: 987asjd97y7atg", "CSeq: 986759 INVITE", "Contact: <sip:alice@192.0.2.1>", "Content-Length: 0"}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, "=>")
		found := false
		for i, g := range good {
			if name != "+" && strings.HasPrefix(g, name) {
				found = true
				good[i] = value
			}
		}
		if !found {
			good = append(good, value)
		}
	}
	var b bytes.Buffer
	for _, g := range good {
		if g != "" {
			b.WriteString(g + "\r\n")
		}
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		in     []byte
		status int
	}{
		"no Via":                      {with("Via=>"), 400},
		"two From":                    {with("+=>From: <sip:x@y>;tag=2"), 400},
		"two From, one compact":       {with("+=>f: Alice <sip:alice@p2psip.example>;tag=88sja8x"), 400},
		"two To":                      {with("+=>t: <sip:bob@p2psip.example>"), 400},
		"two Call-ID":                 {with("+=>i: 987asjd97y7atg"), 400},
		"two CSeq":                    {with("+=>CSeq: 986759 INVITE"), 400},
		"two Max-Forwards":            {with("+=>max-forwards: 70"), 400},
		"two Content-Lengths":         {with("+=>l: 1"), 400},
		"two From in one":             {with("From=>From: <sip:a@b>;tag=1, <sip:c@d>;tag=2"), 400},
		"Max-Forwards 256":            {with("Max-Forwards=>Max-Forwards: 256"), 400},
		"Max-Forwards -1":             {with("Max-Forwards=>Max-Forwards: -1"), 400},
		"Max-Forwards 2^64":           {with("Max-Forwards=>Max-Forwards: 18446744073709551616"), 400},
		"CSeq 2^31":                   {with("CSeq=>CSeq: 2147483648 INVITE"), 400},
		"CSeq of another method":      {with("CSeq=>CSeq: 1 BYE"), 400},
		"CSeq in lower case":          {with("CSeq=>CSeq: 1 invite"), 400},
		"CSeq without method":         {with("CSeq=>CSeq: 1"), 400},
		"CSeq with rest":              {with("CSeq=>CSeq: 1 INVITE x"), 400},
		"unknown method, other CSeq":  {with("INVITE=>FOO sip:b@c SIP/2.0"), 501},
		"ACK":                         {with("INVITE=>ACK sip:b@c SIP/2.0"), 0},
		"version 3":                   {with("INVITE=>INVITE sip:b@c SIP/3.0", "From=>"), 505},
		"version 2.00":                {with("INVITE=>INVITE sip:b@c SIP/2.00"), 505},
		"version without number":      {with("INVITE=>INVITE sip:b@c SIP/x"), 400},
		"no version":                  {with("INVITE=>INVITE sip:b@c"), 0},
		"tab in request line":         {with("INVITE=>INVITE\tsip:b@c SIP/2.0"), 400},
		"R-URI without scheme":        {with("INVITE=>INVITE bob@c SIP/2.0"), 400},
		"R-URI without host":          {with("INVITE=>INVITE sip:bob@ SIP/2.0"), 400},
		"R-URI with headers":          {with("INVITE=>INVITE sip:b@c?a=b SIP/2.0"), 400},
		"R-URI port 0":                {with("INVITE=>INVITE sip:b@c:0 SIP/2.0"), 400},
		"R-URI port 65536":            {with("INVITE=>INVITE sip:b@c:65536 SIP/2.0"), 400},
		"R-URI with bad escape":       {with("INVITE=>INVITE sip:b%4@c SIP/2.0"), 400},
		"R-URI with parameter twice":  {with("INVITE=>INVITE sip:b@c;lr;LR SIP/2.0"), 400},
		"R-URI bad IPv4":              {with("INVITE=>INVITE sip:b@1.2.3.256 SIP/2.0"), 400},
		"R-URI bad IPv6":              {with("INVITE=>INVITE sip:b@[::g] SIP/2.0"), 400},
		"R-URI IPv6 with zone":        {with("INVITE=>INVITE sip:b@[fe80::1%25eth0] SIP/2.0"), 400},
		"R-URI two hosts":             {with("INVITE=>INVITE sip:b@c@d SIP/2.0"), 400},
		"R-URI *":                     {with("INVITE=>INVITE * SIP/2.0"), 400},
		"bare LF":                     {bytes.Replace(with(), []byte("70\r\n"), []byte("70\n"), 1), 400},
		"bare CR":                     {bytes.Replace(with(), []byte("70\r\n"), []byte("70\r"), 1), 400},
		"NUL":                         {with("+=>X: a\x00b"), 400},
		"NUL quoted outside quotes":   {with("+=>X: a\\\x00b"), 400},
		"header without colon":        {with("+=>Subject"), 400},
		"header without name":         {with("+=>: x"), 400},
		"header name with space":      {with("+=>Sub ject: x"), 400},
		"first line folded":           {with("Via=> Via: x"), 400},
		"empty From":                  {with("From=>From:"), 400},
		"From *":                      {with("From=>From: *"), 400},
		"From with tag twice":         {with("From=>From: <sip:a@b>;tag=1;Tag=2"), 400},
		"From with unquoted display":  {with("From=>From: A, B <sip:a@b>;tag=1"), 400},
		"From with headers unguarded": {with("From=>From: sip:a@b?x=y;tag=1"), 400},
		"From with space in brackets": {with("From=>From: < sip:a@b>;tag=1"), 400},
		"empty Call-ID":               {with("Call-ID=>Call-ID:"), 400},
		"Call-ID of two words":        {with("Call-ID=>Call-ID: a b"), 400},
		"branch is only the cookie":   {with("Via=>Via: SIP/2.0/UDP h;branch=z9hG4bK"), 400},
		"branch without value":        {with("Via=>Via: SIP/2.0/UDP h;branch"), 400},
		"branch twice":                {with("Via=>Via: SIP/2.0/UDP h;branch=z9hG4bK1;branch=z9hG4bK2"), 400},
		"Via without host":            {with("Via=>Via: SIP/2.0/UDP ;branch=z9hG4bK1"), 400},
		"Via without transport":       {with("Via=>Via: SIP/2.0 h;branch=z9hG4bK1"), 400},
		"Via with bad port":           {with("Via=>Via: SIP/2.0/UDP h:x;branch=z9hG4bK1"), 400},
		"second Via in one bad":       {with("Via=>Via: SIP/2.0/UDP h;branch=z9hG4bK1, SIP/2.0"), 400},
		"Via with empty element":      {with("Via=>Via: SIP/2.0/UDP h;branch=z9hG4bK1,,SIP/2.0/UDP h"), 400},
		"Via ends with comma":         {with("Via=>Via: SIP/2.0/UDP h;branch=z9hG4bK1,"), 400},
		"Route without brackets":      {with("+=>Route: sip:p;lr"), 400},
		"second Route bad":            {with("+=>Route: <sip:p;lr>, <sip>"), 400},
		"Contact bad":                 {with("Contact=>Contact: <sip:a@b"), 400},
		"REGISTER to tel":             {with("INVITE=>REGISTER sip:c SIP/2.0", "CSeq=>CSeq: 1 REGISTER", "To=>To: <tel:+1>"), 400},
		"too many headers":            {with(many("X: y", MaxHeaders)...), 513},
		"too many Vias in one":        {with("Via=>Via: SIP/2.0/UDP h;branch=z9hG4bK1" + strings.Repeat(",SIP/2.0/UDP h", MaxHeaders)), 513},
		"too long":                    {with("+=>X: " + strings.Repeat("x", DefaultHeaderLimit)), 513},
		"body missing":                {with("Content-Length=>Content-Length: 1"), 400},
		"Content-Length hex":          {with("Content-Length=>Content-Length: 0x0"), 400},
		"Content-Length 2^32":         {with("Content-Length=>Content-Length: 4294967296"), 400},
		"response code 99":            {with("INVITE=>SIP/2.0 99 OK"), 0},
		"response code 0200":          {with("INVITE=>SIP/2.0 0200 OK"), 0},
		"response code 700":           {with("INVITE=>SIP/2.0 700 OK"), 0},
		"response of version 3":       {with("INVITE=>SIP/3.0 200 OK"), 0},
		"response without Via":        {with("INVITE=>SIP/2.0 200 OK", "Via=>"), 0},
		"response with two CSeq":      {with("INVITE=>SIP/2.0 200 OK", "+=>CSeq: 1 INVITE"), 0},
		"nothing":                     {nil, 0},
		"empty lines":                 {[]byte("\r\n\r\n"), 0},
		"HTTP":                        {[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), 0},
	} {
		m, err := Parse(c.in, true)
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%s: accepted as %v", name, m)
			continue
		}
		if e.Status != c.status || e.Size != len(c.in) {
			t.Errorf("%s: %v, size %d; want status %d", name, e, e.Size, c.status)
		}
		reply := e.Reply()
		if (reply != nil) != (c.status != 0 && name != "no Via" && name != "first line folded") {
			t.Errorf("%s: reply %q", name, reply)
		}
		if reply != nil && !bytes.HasPrefix(reply, fmt.Appendf(nil, "SIP/2.0 %d ", c.status)) {
			t.Errorf("%s: reply %q", name, reply)
		}
	}
}

func many(line string, n int) (out []string) {
	for range n {
		out = append(out, "+=>"+line)
	}
	return out
}

func TestAccepted(t *testing.T) {
	for name, in := range map[string][]byte{
		"plain":                     with(),
		"Max-Forwards 0":            with("Max-Forwards=>Max-Forwards: 0"),
		"Max-Forwards 255":          with("Max-Forwards=>Max-Forwards: 0255"),
		"no Max-Forwards":           with("Max-Forwards=>"),
		"no branch":                 with("Via=>Via: SIP/2.0/UDP h"),
		"no From tag":               with("From=>From: sip:a@b"),
		"same Content-Length twice": with("+=>l: 00"),
		"unknown method":            with("INVITE=>FOO sip:b@c SIP/2.0", "CSeq=>CSeq: 1 FOO"),
		"lower case version":        with("INVITE=>INVITE sip:b@c sip/2.0"),
		"unknown scheme":            with("INVITE=>INVITE soap.beep://x/y?z SIP/2.0"),
		"node name":                 with("INVITE=>INVITE sip:b@k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8.p2psip.example SIP/2.0"),
		"many Routes":               with("+=>Route: <sip:a;lr>,<sip:b;lr>", "+=>Route: \"x,y\" <sip:c;lr>;p=\"a,b\" , <sip:d>"),
		"Max-Forwards in response":  with("INVITE=>SIP/2.0 200 OK", "Max-Forwards=>Max-Forwards: many"),
		"UTF-8":                     with("From=>From: \"Jürgen\" <sip:a@b>;tag=1", "+=>Subject: Grüße"),
		"quoted NUL":                with("From=>From: \"\\\x00\" <sip:a@b>;tag=1"),
		"no Content-Length":         append(with("Content-Length=>"), "body"...),
	} {
		m, err := Parse(in, true)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		checkMeaning(t, m)
	}
}

// TestForwardedAsReceived: what nobody touches leaves as it came; what is after the body of a datagram does not leave.
func TestForwardedAsReceived(t *testing.T) {
	body := "v=0\r\n\x00\xff\r\n\r\nbinary"
	in := "INVITE sip:bob;x=%41@P2PSIP.example:5062;Transport=udp;unknown SIP/2.0\r\n" +
		"Via: SIP/2.0/UDP [2001:db8::1]:5060;branch=z9hG4bK776;x=\"a b\";rport\r\n" +
		"From: Alice   B <sip:alice@p2psip.example> ;  tag=88 ;x=\";tag=evil\"\r\n" +
		"To:   sip:bob@p2psip.example\r\n" +
		"Call-ID: 98(7@asjd\r\n" +
		"X-Unknown: ;;,  ,\t\"\r\n" +
		"CSeq: 1 INVITE\r\n" +
		"Contact: Alice <sip:alice@192.0.2.1>;expires=5 , <sip:c@d>;q=0.1\r\n" +
		"Route: <sip:p1;lr>\r\n" +
		"Route: \"P\" <sip:p2;lr>;x=y\r\n" +
		"Record-Route: <sip:r1;lr>;z , <sip:r2;lr>\r\n" +
		fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body)) + body
	m, err := Parse([]byte(in+"INVITE sip:smuggled SIP/2.0\r\n"), true)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer(";Transport=udp", ";transport=udp", "To:   sip", "To: sip",
		" , <sip:c", "\r\nContact: <sip:c", ";z , <", ";z\r\nRecord-Route: <").Replace(in)
	if got := string(Bytes(m)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	req := m.(*sip.Request)
	if tag, _ := req.From().Params.Get("tag"); tag != "88" {
		t.Errorf("From tag %q", tag)
	}
	if req.From().DisplayName != "Alice   B" || req.To().Address.User != "bob" || req.Contact().Address.User != "alice" {
		t.Errorf("%v %v %v", req.From(), req.To(), req.Contact())
	}
	if c := Contacts(m); len(c) != 2 || c[1].Params.GetOr("q", "") != "0.1" || c[0].Params.GetOr("expires", "") != "5" {
		t.Errorf("contacts %v", c)
	}
	if r := Routes(m, "Route"); len(r) != 2 || r[1].Host != "p2" {
		t.Errorf("routes %v", r)
	}
	if r := Routes(m, "Record-Route"); len(r) != 2 || r[0].Host != "r1" {
		t.Errorf("record-routes %v", r)
	}
	if !PopRoute(req) || req.Route().Address.Host != "p2" || !PopRoute(req) || req.Route() != nil || PopRoute(req) {
		t.Errorf("routes left: %v", req.Route())
	}
}

// TestCloneSharesNothing: a change in one copy is not seen in the other.
func TestCloneSharesNothing(t *testing.T) {
	m, err := Parse(with("From=>From: <sip:a@b>;tag=1", "+=>Route: <sip:p;lr>"), true)
	if err != nil {
		t.Fatal(err)
	}
	req := m.(*sip.Request)
	before := string(Bytes(req))
	c := Clone(req)
	c.MaxForwards().Dec()
	c.Via().Params.Add("received", "192.0.2.9")
	c.Via().Params[0].V = "changed"
	c.From().Params.Add("tag", "2")
	c.To().Address.User = "x"
	*c.CallID() = "x"
	c.CSeq().SeqNo++
	*c.ContentLength() = 7
	c.Contact().Address.User = "x"
	c.Recipient.User = "x"
	PopRoute(c)
	c.PrependHeader(sip.NewHeader("X", "y"))
	c.SetBody([]byte("x"))
	if got := string(Bytes(req)); got != before {
		t.Errorf("the original changed:\n%s", got)
	}
}

// TestCloneAfterRemoveHeader: a clone's Route() is right even where sipgo's RemoveHeader was used instead of PopRoute.
func TestCloneAfterRemoveHeader(t *testing.T) {
	m, err := Parse(with("+=>Route: <sip:a;lr>, \"B\" <sip:b;lr>, <sip:c;lr>;x=y"), true)
	if err != nil {
		t.Fatal(err)
	}
	req := m.(*sip.Request)
	req.RemoveHeader("Route")
	c := Clone(req)
	if c.Route() == nil || c.Route().Address.Host != "b" || !PopRoute(c) || c.Route().Address.Host != "c" {
		t.Errorf("Route() is %v", c.Route())
	}
}

// TestReplyTag: a To gets a tag unless it has one, whatever else is spelled so.
func TestReplyTag(t *testing.T) {
	for to, want := range map[string]int{"\"tag\" <sip:b@c>": 1, "<sip:b@c>;Tag=x": 0, "sip:tag@c": 1} {
		_, err := Parse(with("CSeq=>CSeq: 1 BYE", "To=>To: "+to), true)
		if got := strings.Count(string(err.(*Error).Reply()), to+";tag="); got != want {
			t.Errorf("%s: %s", to, err.(*Error).Reply())
		}
	}
}

func TestNewResponse(t *testing.T) {
	m, err := Parse(with("Via=>Via: SIP/2.0/UDP h1;branch=z9hG4bK1, SIP/2.0/TCP h2", "+=>Record-Route: <sip:r;lr>", "+=>Timestamp: 5"), true)
	if err != nil {
		t.Fatal(err)
	}
	req := m.(*sip.Request)
	trying, ringing, ok, busy := NewResponse(req, 100, ""), NewResponse(req, 180, ""), NewResponse(req, 200, "Fine"), NewResponse(req, 486, "")
	if got := string(Bytes(trying)); strings.Contains(got, "Record-Route") || !strings.Contains(got, "Timestamp: 5") ||
		strings.Count(got, "tag=") != 1 || !strings.HasPrefix(got, "SIP/2.0 100 Trying\r\nVia: SIP/2.0/UDP h1;branch=z9hG4bK1\r\nVia: SIP/2.0/TCP h2\r\n") {
		t.Errorf("100: %s", got)
	}
	tag, has := ok.To().Params.Get("tag")
	if other, _ := ringing.To().Params.Get("tag"); !has || tag != other || tag == "" {
		t.Errorf("tags %q and %q", tag, other)
	}
	if !strings.Contains(string(Bytes(ok)), "\r\nRecord-Route: <sip:r;lr>\r\n") || !strings.Contains(string(Bytes(ok)), ";tag="+tag) {
		t.Errorf("200: %s", Bytes(ok))
	}
	if strings.Contains(string(Bytes(busy)), "Record-Route") {
		t.Errorf("486: %s", Bytes(busy))
	}
	SetToTag(ok, "mine")
	if got := string(Bytes(ok)); !strings.Contains(got, ";tag=mine\r\n") || strings.Contains(got, tag) {
		t.Errorf("200: %s", got)
	}
	if req.To().Params.Has("tag") {
		t.Error("the request got a tag")
	}
	other, _ := Parse(with("Call-ID=>Call-ID: other"), true)
	if o, _ := NewResponse(other.(*sip.Request), 200, "").To().Params.Get("tag"); o == tag {
		t.Error("two requests with one tag")
	}
}

// TestReplyIsStable: the answer to a retransmission is the same.
func TestReplyIsStable(t *testing.T) {
	in := with("CSeq=>CSeq: 1 BYE")
	_, a := Parse(in, true)
	_, b := Parse(in, true)
	if ra, rb := a.(*Error).Reply(), b.(*Error).Reply(); !bytes.Equal(ra, rb) || !bytes.Contains(ra, []byte(";tag=")) {
		t.Errorf("%s\n%s", ra, rb)
	}
}

func TestFrame(t *testing.T) {
	body := append(with("Content-Length=>Content-Length: 4"), "body"...)
	if _, err := Parse(body, false); err != nil {
		t.Error(err)
	}
	for name, b := range map[string][]byte{
		"octets after the body":       append(bytes.Clone(body), "x"...),
		"body without Content-Length": append(with("Content-Length=>"), "x"...),
	} {
		if _, err := Parse(b, false); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := Parse(with("Content-Length=>"), false); err != nil {
		t.Errorf("no body and no Content-Length: %v", err)
	}
}

func TestParseURI(t *testing.T) {
	for _, s := range []string{"sip:alice@example.com", "sips:a:b@[::1]:5061;lr;x=y?h=v&i=", "sip:a:@h", "tel:+1-2;phone-context=x",
		"urn:service:sos", "sip:[2001:db8:::192.0.2.1]", "sip:a%00b@h", "sip:h.", "sip:1_x@under_score"} {
		u, err := ParseURI(s)
		if err != nil || u.String() != s {
			t.Errorf("%s: written %s, %v", s, u.String(), err)
		}
	}
	for _, s := range []string{"", ":", "sip", "sip:", "sip:@h", "sip:a@", "sip:h;", "sip:h;=x", "sip:h;a=", "sip:h?", "sip:h?a", "sip:h?a=b&",
		"sip:a b@h", "sip:a@h x", "sip:a..b", "sip:" + strings.Repeat("x", 64), "1x:y", "x:", "x:a b", "x:<>", "x:%4", "sip:h\r\nX: y", "*"} {
		if u, err := ParseURI(s); err == nil {
			t.Errorf("%q: accepted as %s", s, u.String())
		}
	}
}

// typical is an INVITE as a phone sends it.
var typical = append(with("From=>From: \"Alice\" <sip:alice@p2psip.example>;tag=88sja8x", "To=>To: <sip:bob@p2psip.example>",
	"Via=>Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK776asdhds;rport", "+=>Supported: replaces, norefersub, gruu",
	"+=>Allow: INVITE,ACK,BYE,CANCEL,OPTIONS,NOTIFY,SUBSCRIBE,INFO,MESSAGE,UPDATE,REFER", "+=>User-Agent: phone 1.0",
	"+=>Content-Type: application/sdp", "Content-Length=>Content-Length: 300"), bytes.Repeat([]byte("a=x\r\n"), 60)...)

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	b.SetBytes(int64(len(typical)))
	for b.Loop() {
		if _, err := Parse(typical, true); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseAndBytes(b *testing.B) {
	b.ReportAllocs()
	b.SetBytes(int64(len(typical)))
	for b.Loop() {
		m, err := Parse(typical, true)
		if err != nil {
			b.Fatal(err)
		}
		Bytes(m)
	}
}

func BenchmarkClone(b *testing.B) {
	m, err := Parse(typical, true)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		Clone(m.(*sip.Request))
	}
}

// BenchmarkSipgoParse is what sipgo's own parser takes, for comparison.
func BenchmarkSipgoParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := sip.ParseMessage(typical); err != nil {
			b.Fatal(err)
		}
	}
}

// TestPlainMessagesReadAsSipgoDoes: for a message without oddities sipgo's parser and this package see the same.
func TestPlainMessagesReadAsSipgoDoes(t *testing.T) {
	ours, err := Parse(typical, true)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := sip.ParseMessage(typical)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := summary(ours), summary(theirs); a != b {
		t.Errorf("here  %+v\nsipgo %+v", a, b)
	}
	if a, b := string(Bytes(ours)), theirs.String(); a != b {
		t.Errorf("here\n%s\nsipgo\n%s", a, b)
	}
}
