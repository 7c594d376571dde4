package audio

// alawFlip is the inversion of every second bit that G.711 prescribes for A-law.
const alawFlip = 0x55

// EncodeALaw appends the A-law form (ITU-T G.711) of samples to dst, one byte each.
func EncodeALaw(dst []byte, samples []int16) []byte {
	for _, s := range samples {
		v, sign := int(s)>>3, byte(0x80) // 13 bits
		if v < 0 {
			v, sign = -v-1, 0
		}
		exp := 0
		for v>>exp > 0x1f {
			exp++
		}
		c := byte(v >> 1) // the two lowest segments have steps of the same size
		if exp > 0 {
			c = byte(exp<<4) | byte(v>>exp)&0x0f
		}
		dst = append(dst, (sign|c)^alawFlip)
	}
	return dst
}

// DecodeALaw appends the samples that b stands for to dst.
func DecodeALaw(dst []int16, b []byte) []int16 {
	for _, c := range b {
		c ^= alawFlip
		exp := int(c >> 4 & 7)
		v := int(c&0x0f)<<4 + 8
		if exp > 0 {
			v = (v + 0x100) << (exp - 1)
		}
		if c&0x80 == 0 {
			v = -v
		}
		dst = append(dst, int16(v))
	}
	return dst
}
