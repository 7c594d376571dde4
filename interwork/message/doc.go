// Package message reads and writes SIP messages (RFC 3261 §7, §25).
package message
