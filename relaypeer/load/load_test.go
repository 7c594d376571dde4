//go:build linux

package load

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"go.uber.org/goleak"
)

// serveEnv makes the test binary a relay, as p2psip bench serve is one.
const serveEnv = "P2PSIP_LOAD_SERVE"

func TestMain(m *testing.M) {
	if r := os.Getenv(serveEnv); r != "" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		if err := Serve(ctx, Relay(r), os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// self runs the test binary as a relay.
func self(r Relay) (string, []string) {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return "/usr/bin/env", []string{serveEnv + "=" + string(r), path}
}

func TestRun(t *testing.T) {
	c := Config{Allocations: 20, Duration: 500 * time.Millisecond, Warmup: 100 * time.Millisecond, Rounds: 1, Command: self}
	if s := os.Getenv("P2PSIP_LOAD_CONFIG"); s != "" { // for longer measurements by hand
		if err := json.Unmarshal([]byte(s), &c); err != nil {
			t.Fatal(err)
		}
	}
	res, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, row := range res.Table() {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	w.Flush()
	t.Logf("%s\n%s", res.Conditions(), &b)
	for _, one := range res.Rounds {
		t.Logf("%+v late %v max %v", one.Relay, one.Late, one.Max)
	}
	for _, r := range []Relay{Ours, Plain} {
		var one Round
		for _, o := range res.Rounds {
			if o.Relay == r {
				one = o
			}
		}
		if one.Arrived == 0 || one.P50 <= 0 || one.RSSFull <= 0 {
			t.Errorf("%s: %+v", r, one)
		}
	}
}
