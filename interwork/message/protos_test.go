package message

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"strconv"
	"testing"
)

// TestPROTOS runs the 4,527 hostile INVITEs of the PROTOS c07-sip suite, which is under the GPL and therefore not part of
// this repository, where a copy lies beside it. The corpus and fuzz tests do not depend on it.
func TestPROTOS(t *testing.T) {
	const path = "../../../shared/corpus/protos-c07-sip/testcases.tar.xz"
	if _, err := os.Stat(path); err != nil {
		t.Skip("no copy of the PROTOS test cases")
	}
	xz, err := exec.Command("xz", "-dc", path).Output()
	if err != nil {
		t.Skipf("xz: %v", err)
	}
	accepted, answered, silent := 0, 0, 0
	for r := tar.NewReader(bytes.NewReader(xz)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range protosMessages(b) {
			m, err := Parse(b, true)
			switch e, _ := err.(*Error); {
			case err == nil:
				accepted++
				checkMeaning(t, m)
			case e.Reason == "internal error":
				t.Errorf("%s: panic", h.Name)
			case e.Reply() == nil:
				silent++
			default:
				answered++
			}
			readAll(t, NewReader(bytes.NewReader(b), Limits{}))
		}
	}
	if accepted == 0 || answered == 0 || accepted+answered+silent < 4500 {
		t.Errorf("%d accepted, %d answered, %d silent", accepted, answered, silent)
	}
	t.Logf("%d accepted, %d answered, %d silent", accepted, answered, silent)
}

// protosMessages cuts one test case, a sequence of "<octets> <message>", and fills its template in.
func protosMessages(b []byte) (out [][]byte) {
	for {
		count, rest, ok := bytes.Cut(b, []byte(" "))
		n, err := strconv.Atoi(string(bytes.TrimSpace(count)))
		if !ok || err != nil || n > len(rest) {
			return out
		}
		m := rest[:n]
		b = rest[n:]
		for from, to := range map[string]string{"<To>": "bob@p2psip.example", "<From>": "alice@p2psip.example",
			"<From-Address>": "192.0.2.1", "<From-IP>": "192.0.2.1", "<Local-Port>": "5060", "<Branch-ID>": "1",
			"<Call-ID>": "1", "<CSeq>": "1", "<Teardown-Method>": "CANCEL"} {
			m = bytes.ReplaceAll(m, []byte(from), []byte(to))
		}
		_, body, _ := bytes.Cut(m, []byte("\r\n\r\n"))
		out = append(out, bytes.ReplaceAll(m, []byte("<Content-Length>"), strconv.AppendInt(nil, int64(len(body)), 10)))
	}
}
