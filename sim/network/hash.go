package network

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
)

// mix is one step of SplitMix64: a number without pattern for each input.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// hash makes one number without pattern of several.
func hash(parts ...uint64) uint64 {
	h := uint64(0x243f6a8885a308d3)
	for _, p := range parts {
		h = mix(h ^ p)
	}
	return h
}

// unit maps a hash to (0, 1).
func unit(h uint64) float64 { return (float64(h>>11) + 0.5) / (1 << 53) }

// normal maps a hash to the standard normal distribution (Box-Muller).
func normal(h uint64) float64 {
	return math.Sqrt(-2*math.Log(unit(h))) * math.Cos(2*math.Pi*unit(mix(h)))
}

// exponential maps a hash to the exponential distribution with mean 1.
func exponential(h uint64) float64 { return -math.Log(unit(h)) }

// hashString makes a number of a string.
func hashString(s string) uint64 {
	h := sha256.Sum256([]byte(s))
	return binary.BigEndian.Uint64(h[:])
}
