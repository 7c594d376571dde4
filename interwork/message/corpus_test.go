package message

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/emiago/sipgo/sip"
)

// corpusRow is one line of testdata/corpus/index.tsv.
type corpusRow struct {
	name, file           string
	expectUDP, expectTCP []string // PROC, NONE, CLOSE or a status
	okUDP, okTCP         []string // tolerated
	forward              string
}

func corpus(t testing.TB) []corpusRow {
	t.Helper()
	index, err := os.ReadFile("testdata/corpus/index.tsv")
	if err != nil {
		t.Fatal(err)
	}
	var rows []corpusRow
	for i, line := range strings.Split(strings.TrimRight(string(index), "\n"), "\n") {
		c := strings.Split(line, "\t")
		if i == 0 || len(c) < 12 || !strings.HasPrefix(c[0], "rfc") {
			continue
		}
		split := func(s string) []string { return strings.Split(s, "|") }
		rows = append(rows, corpusRow{name: c[1], file: c[2], expectUDP: split(c[7]), okUDP: split(c[8]),
			expectTCP: split(c[9]), okTCP: split(c[10]), forward: c[11]})
	}
	if len(rows) < 60 {
		t.Fatalf("only %d corpus rows", len(rows))
	}
	return rows
}

func (r corpusRow) data(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata/corpus", r.file))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// aboveMessage are the outcomes that a layer above decides: the message itself has to be accepted.
var aboveMessage = map[string]bool{"416": true, "420": true, "483": true, "401": true, "404": true, "405": true, "200": true}

// outcome puts what Parse did into the words of the index.
func outcome(m sip.Message, err error) string {
	var e *Error
	switch {
	case err == nil:
		if _, ok := m.(*sip.Response); ok {
			return "NONE" // a stray response is for nobody
		}
		return "PROC"
	case !errors.As(err, &e):
		return "CLOSE"
	case e.Status == 0:
		return "NONE"
	default:
		return statusString(e)
	}
}

func statusString(e *Error) string {
	reply := e.Reply()
	if reply == nil {
		return "NONE"
	}
	return string(reply[len("SIP/2.0 "):][:3])
}

// meets reports that got is one of the expected outcomes, or PROC where the expectation is decided above.
func meets(got string, want []string) bool {
	for _, w := range want {
		if got == w || got == "PROC" && aboveMessage[w] {
			return true
		}
	}
	return false
}

// TestCorpusDatagram takes the expected outcomes only, never the merely tolerated ones.
func TestCorpusDatagram(t *testing.T) {
	for _, row := range corpus(t) {
		t.Run(row.name, func(t *testing.T) {
			m, err := Parse(row.data(t), true)
			got := outcome(m, err)
			if !meets(got, row.expectUDP) {
				t.Fatalf("got %s (%v), want one of %v", got, err, row.expectUDP)
			}
			var e *Error
			if errors.As(err, &e) && e.Status != 0 {
				checkReply(t, e.Reply())
			}
			if err == nil {
				checkForward(t, row, m)
			}
		})
	}
}

// tolerated are the rows where this package keeps to what the index tolerates on a stream, with the reason.
var tolerated = map[string]string{
	"inv2543": "no Content-Length: on a stream nothing says where the message ends (RFC 3261 §20.14)",
}

func TestCorpusStream(t *testing.T) {
	for _, row := range corpus(t) {
		t.Run(row.name, func(t *testing.T) {
			r := NewReader(iotest.OneByteReader(bytes.NewReader(row.data(t))), Limits{})
			m, err := r.Next()
			got := outcome(m, err)
			want := row.expectTCP
			if tolerated[row.name] != "" {
				want = row.okTCP
			}
			if !meets(got, want) {
				t.Fatalf("got %s (%v), want one of %v", got, err, want)
			}
			if row.name == "dblreq" {
				second, err := r.Next()
				if err != nil || second.(*sip.Request).Method != "INVITE" {
					t.Fatalf("second request on the stream: %v, %v", second, err)
				}
			}
			if err == nil {
				if _, err := r.Next(); err != io.EOF && row.name != "ncl" {
					// What follows a complete message in these files is nothing, or a second message.
					var e *Error
					if !errors.As(err, &e) && err != io.ErrUnexpectedEOF {
						t.Fatalf("after the message: %v", err)
					}
				}
			}
		})
	}
}

// checkForward applies the rule of the index for what may and what must not leave, and that what leaves is read again.
func checkForward(t *testing.T, row corpusRow, m sip.Message) {
	out := Bytes(m)
	again, err := Parse(out, true)
	if err != nil {
		t.Fatalf("what was accepted is refused when it comes back: %v\n%s", err, out)
	}
	if twice := Bytes(again); !bytes.Equal(out, twice) {
		t.Fatalf("written differently the second time:\n%s\n%s", out, twice)
	}
	rule := strings.TrimPrefix(row.forward, "u:")
	if rule == "-" || rule == "!" || rule == "" {
		return
	}
	found := regexp.MustCompile("(?m)" + rule[1:]).Match(out)
	if found != (rule[0] == '+') {
		t.Fatalf("rule %s: found %v in\n%s", rule, found, out)
	}
}

// checkReply: a refusal is itself a message that this package accepts, with a tag on its To if there is a To.
func checkReply(t *testing.T, b []byte) {
	t.Helper()
	m, err := Parse(b, true)
	if err != nil {
		// Where the fields that had to be copied are what was wrong there is nothing better to say.
		if !bytes.HasPrefix(b, []byte("SIP/2.0 ")) || !bytes.HasSuffix(b, []byte("\r\n\r\n")) {
			t.Fatalf("reply is no message: %q", b)
		}
		return
	}
	if _, ok := m.To().Params.Get("tag"); !ok {
		t.Fatalf("reply without To tag:\n%s", b)
	}
}
