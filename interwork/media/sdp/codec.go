package sdp

import "strings"

// staticCodecs are the payload types that need no a=rtpmap (RFC 3551 §6), as far as telephones use them.
var staticCodecs = map[string]string{
	"0": "PCMU/8000", "3": "GSM/8000", "4": "G723/8000", "8": "PCMA/8000", "9": "G722/8000", "13": "CN/8000",
	"15": "G728/8000", "18": "G729/8000", "26": "JPEG/90000", "31": "H261/90000", "34": "H263/90000",
}

// Codec names a format of the stream as a=rtpmap does ("opus/48000/2"), or gives "" where nothing says.
func (m *Media) Codec(format string) string {
	for _, v := range m.Attributes("rtpmap") {
		if f, name, ok := strings.Cut(v, " "); ok && f == format {
			return strings.TrimSpace(name)
		}
	}
	return staticCodecs[format]
}

// Main names the first format that is sound, picture or text of its own, not what goes beside it: digits, comfort noise,
// retransmission and error correction.
func (m *Media) Main() string {
	for _, f := range m.Formats {
		c := m.Codec(f)
		name, _, _ := strings.Cut(strings.ToLower(c), "/")
		switch name {
		case "", "telephone-event", "cn", "rtx", "red", "ulpfec", "flexfec-03":
			continue
		}
		return c
	}
	return ""
}
