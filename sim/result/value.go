package result

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
)

// Value is a number that may not have been measured. Its zero value has not.
type Value struct {
	v   float64
	set bool
}

// V is a measured number. What is not finite counts as not measured.
func V(v float64) Value {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return Value{}
	}
	return Value{rounded(v), true}
}

// MS is a duration as milliseconds.
func MS(d time.Duration) Value { return V(float64(d) / float64(time.Millisecond)) }

// Share is part of whole as a number from 0 to 1; of nothing it is not measured.
func Share(part, whole int) Value {
	if whole <= 0 {
		return Value{}
	}
	return V(float64(part) / float64(whole))
}

// Get gives the number, and whether it has been measured.
func (v Value) Get() (float64, bool) { return v.v, v.set }

// Known tells whether the number has been measured.
func (v Value) Known() bool { return v.set }

// Or gives the number, or another when it has not been measured.
func (v Value) Or(other float64) float64 {
	if v.set {
		return v.v
	}
	return other
}

// String is the number as in JSON.
func (v Value) String() string {
	if !v.set {
		return "null"
	}
	return format(v.v)
}

// MarshalJSON gives the number with up to nine significant digits and no exponent, or null.
func (v Value) MarshalJSON() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalJSON takes a finite number or null.
func (v *Value) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*v = Value{}
		return nil
	}
	var f float64
	if err := json.Unmarshal(b, &f); err != nil {
		return fmt.Errorf("not a number: %.20q", b)
	}
	if math.Abs(f) > largest {
		return fmt.Errorf("number too large: %.20q", b)
	}
	*v = V(f)
	return nil
}

// Numbers is a row of numbers in JSON's short form.
type Numbers []float64

// MarshalJSON gives the numbers with up to nine significant digits each; null never occurs.
func (n Numbers) MarshalJSON() ([]byte, error) {
	b := append(make([]byte, 0, 8*len(n)+2), '[')
	for i, v := range n {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("number %d of %d is not finite", i+1, len(n))
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, format(v)...)
	}
	return append(b, ']'), nil
}

// largest is the largest number that is believed; it is also written without an exponent.
const largest = 1e18

// rounded gives v with nine significant digits, so that the last bits of a sum say nothing about the machine.
func rounded(v float64) float64 {
	r, err := strconv.ParseFloat(strconv.FormatFloat(v, 'e', 8, 64), 64)
	if err != nil || math.Abs(r) < 1e-12 {
		return 0
	}
	return r
}

func format(v float64) string { return strconv.FormatFloat(rounded(v), 'f', -1, 64) }
