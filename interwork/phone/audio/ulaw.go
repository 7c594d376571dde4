package audio

const (
	ulawBias = 0x84  // 132: moves the segments to powers of two
	ulawClip = 32635 // the largest magnitude µ-law can express
)

// EncodeULaw appends the µ-law form (ITU-T G.711) of samples to dst, one byte each.
func EncodeULaw(dst []byte, samples []int16) []byte {
	for _, s := range samples {
		v, sign := int(s), byte(0)
		if v < 0 {
			v, sign = -v, 0x80
		}
		v = min(v, ulawClip) + ulawBias
		exp := 7
		for mask := 0x4000; exp > 0 && v&mask == 0; mask >>= 1 {
			exp--
		}
		dst = append(dst, ^(sign | byte(exp<<4) | byte(v>>(exp+3)&0x0f)))
	}
	return dst
}

// DecodeULaw appends the samples that b stands for to dst.
func DecodeULaw(dst []int16, b []byte) []int16 {
	for _, c := range b {
		c = ^c
		exp := int(c >> 4 & 7)
		v := (int(c&0x0f)<<3+ulawBias)<<exp - ulawBias
		if c&0x80 != 0 {
			v = -v
		}
		dst = append(dst, int16(v))
	}
	return dst
}
