package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// Run measures. A relay that is not installed is named in Result.Absent.
func Run(ctx context.Context, c Config) (*Result, error) {
	c = c.Defaults()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	res := &Result{Config: c, System: system(), Absent: map[Relay]string{}}
	for round := range c.Rounds {
		for i := range c.Relays {
			r := c.Relays[(i+round)%len(c.Relays)] // none is always the first
			if res.Absent[r] != "" {
				continue
			}
			if c.Progress != nil {
				c.Progress(round+1, r)
			}
			one, err := measure(ctx, c, r)
			if errors.Is(err, errAbsent) {
				res.Absent[r] = err.Error()
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("measuring %s in round %d: %w", r, round+1, err)
			}
			res.Rounds = append(res.Rounds, one)
		}
	}
	res.summarize()
	return res, nil
}

// measure runs one relay once.
func measure(ctx context.Context, c Config, r Relay) (Round, error) {
	p, err := start(ctx, c, r)
	if err != nil {
		return Round{}, err
	}
	defer p.stop()
	g, err := newGenerator(c)
	if err != nil {
		return Round{}, err
	}
	defer g.close()
	one := Round{Relay: r}
	if one.RSSEmpty, err = p.rss(); err != nil {
		return Round{}, err
	}
	user, pass := credentials(r)
	if err := g.setUp(ctx, p.addr, user, pass); err != nil {
		return Round{}, err
	}
	var cpu []time.Duration
	var at []time.Time
	var failed error
	err = g.run(ctx, func() {
		used, err := p.cpu()
		failed = errors.Join(failed, err)
		cpu, at = append(cpu, used), append(at, time.Now())
	})
	if err = errors.Join(err, failed); err != nil {
		return Round{}, err
	}
	if one.RSSFull, err = p.rss(); err != nil {
		return Round{}, err
	}
	one.CPU, one.Wall = cpu[1]-cpu[0], at[1].Sub(at[0])
	one.Sent, one.Arrived = g.sent, g.arrived
	one.P50, one.P99, one.Max = g.delay.quantile(0.5), g.delay.quantile(0.99), time.Duration(g.delay.max)
	one.Late = g.late.quantile(0.99)
	return one, nil
}

// system names the machine, as far as it matters here.
func system() string {
	s := fmt.Sprintf("%d processors", runtime.NumCPU())
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(b), "model name\t: "); ok {
			model, _, _ := strings.Cut(rest, "\n")
			s += " " + model
		}
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		s += ", Linux " + strings.TrimSpace(string(b))
	}
	return s
}
