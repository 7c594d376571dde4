package load

import (
	"strings"
	"testing"
	"time"
)

func TestConfigValidate(t *testing.T) {
	if err := (Config{}).Defaults().Validate(); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]Config{
		"too many allocations": {Allocations: maxAllocations + 1},
		"a negative rate":      {Rate: -1},
		"no room for a stamp":  {Payload: 8},
		"beyond the MTU":       {Payload: 1401},
		"a short round":        {Duration: time.Millisecond},
		"a long one":           {Duration: time.Hour},
		"negative rounds":      {Rounds: -1},
		"an unknown relay":     {Relays: []Relay{"asterisk"}},
		"one twice":            {Relays: []Relay{Ours, Ours}},
	} {
		if err := c.Defaults().Validate(); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestSummary(t *testing.T) {
	r := Result{Config: Config{Relays: []Relay{Coturn, Ours}, Allocations: 10, Rounds: 3}.Defaults(), Absent: map[Relay]string{Plain: "why"}}
	for _, cpu := range []int{3, 1, 8} {
		r.Rounds = append(r.Rounds,
			Round{Relay: Coturn, Sent: 2e6, Arrived: 1e6, CPU: 10 * time.Second, P99: time.Millisecond},
			Round{Relay: Ours, Sent: 1e6, Arrived: 1e6, CPU: time.Duration(cpu) * time.Second, RSSEmpty: 1 << 20, RSSFull: 2 << 20})
	}
	r.summarize()
	ours, coturn := r.Relays[Ours], r.Relays[Coturn]
	if ours.CPU != (Spread{3, 1, 8}) || ours.Ratio != 0.3 || ours.PerAllocation.Median != 102.4 || ours.RSS.Median != 2 {
		t.Errorf("%+v", ours)
	}
	if coturn.Lost.Median != 50 || coturn.P99.Median != 1 || coturn.Ratio != 1 {
		t.Errorf("%+v", coturn)
	}
	if rows := r.Table(); len(rows) != 3 || rows[2][0] != string(Ours) || rows[2][3] != "0.30" {
		t.Errorf("%q", rows)
	}
	if s := r.Conditions(); !strings.Contains(s, "pion was not measured: why") {
		t.Error(s)
	}
	if m := spread([]float64{1, 2, 3, 10}).Median; m != 2.5 {
		t.Errorf("the median of four is %v", m)
	}
}
