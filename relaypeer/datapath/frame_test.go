package datapath

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/pion/stun"
)

func TestChannelData(t *testing.T) {
	for _, c := range []struct {
		name, in string
		number   uint16
		data     string
		ok       bool
	}{
		{"empty", "", 0, "", false},
		{"header cut short", "\x40\x00\x00", 0, "", false},
		{"no data", "\x40\x00\x00\x00", 0x4000, "", true},
		{"some", "\x40\x01\x00\x03abc", 0x4001, "abc", true},
		{"padded", "\x7f\xff\x00\x03abc\x00", 0x7fff, "abc", true},
		{"longer than it is", "\x40\x00\x00\x04abc", 0, "", false},
		{"much longer", "\x40\x00\xff\xffabc", 0, "", false},
		{"number too small", "\x3f\xff\x00\x00", 0, "", false},
		{"number too large", "\x80\x00\x00\x00", 0, "", false},
		{"a STUN request", "\x00\x01\x00\x00\x21\x12\xa4\x42" + "123456789012", 0, "", false},
	} {
		number, data, ok := channelData([]byte(c.in))
		if number != c.number && ok || string(data) != c.data || ok != c.ok {
			t.Errorf("%s: %#x %q %v", c.name, number, data, ok)
		}
	}
}

func TestDataLength(t *testing.T) {
	m := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodData, stun.ClassIndication),
		stun.RawAttribute{Type: stun.AttrXORPeerAddress, Value: make([]byte, 8)}, stun.RawAttribute{Type: stun.AttrData, Value: make([]byte, 13)})
	response := stun.MustBuild(stun.TransactionID, stun.BindingSuccess)
	for _, c := range []struct {
		name string
		in   []byte
		n    int
		ok   bool
	}{
		{"Data indication", m.Raw, 13, true},
		{"ChannelData", []byte("\x40\x00\x00\x02ab\x00\x00"), 2, true},
		{"a response", response.Raw, 0, false},
		{"cut short", m.Raw[:30], 0, false},
		{"nothing", nil, 0, false},
	} {
		if n, ok := dataLength(c.in); n != c.n || ok != c.ok {
			t.Errorf("%s: %d %v", c.name, n, ok)
		}
	}
}

func FuzzChannelData(f *testing.F) {
	f.Add([]byte("\x40\x00\x00\x03abc\x00"))
	f.Add([]byte("\x40\x00\x00\x09abc"))
	f.Add([]byte("\x01\x03\x00\x00\x21\x12\xa4\x42123456789012"))
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		number, data, ok := channelData(b)
		if ok {
			if number < 0x4000 || number > 0x7fff || len(data) > len(b)-4 {
				t.Fatalf("%#x with %d octets of %d", number, len(data), len(b))
			}
			again := make([]byte, 4, 4+len(data))
			putChannelHeader(again, number, len(data))
			if again = append(again, data...); !bytes.Equal(again, b[:len(again)]) {
				t.Fatalf("%x was read as %x", b, again)
			}
			if len(b)-len(again) < 4 && isSTUN(b) {
				t.Fatalf("%x is both ChannelData and STUN", b)
			}
		}
		if n, ok := dataLength(b); ok && (n < 0 || n > len(b)) {
			t.Fatalf("%d octets of data in %d", n, len(b))
		}
		// What pion would send for a channel with any number at all is no STUN message.
		if len(b) >= 2 && len(b) < 1<<16 {
			raw := make([]byte, 4, len(b)+8)
			binary.BigEndian.PutUint16(raw, binary.BigEndian.Uint16(b))
			binary.BigEndian.PutUint16(raw[2:], uint16(len(b)))
			for raw = append(raw, b...); len(raw)%4 != 0; {
				raw = append(raw, 0)
			}
			if isSTUN(raw) {
				t.Fatalf("relayed data %x passes for STUN", raw)
			}
		}
		if !bytes.Equal(b, before) {
			t.Fatal("the input was changed")
		}
	})
}
