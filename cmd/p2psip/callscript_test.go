package main

import (
	"context"
	le "encoding/binary"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"p2psip/cmd/p2psip/node"
	"p2psip/interwork/phone/audio"
)

// makeSound: "sound FILE SECONDS RATE" writes a WAVE file with a sweep, no piece of which is like another.
func makeSound(ts *testscript.TestScript, _ bool, args []string) {
	seconds, err := strconv.ParseFloat(args[1], 64)
	ts.Check(err)
	rate, err := strconv.ParseFloat(args[2], 64)
	ts.Check(err)
	samples := make([]int16, int(seconds*rate))
	for i := range samples {
		at := float64(i) / rate
		samples[i] = int16(12000 * math.Sin(2*math.Pi*(300+500*at)*at))
	}
	b := audio.Wav(samples)
	le.LittleEndian.PutUint32(b[24:], uint32(rate))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o644))
}

// heardSound: "heard SENT RECORDED" wants the middle second of one file, or most of it, to be in the other.
func heardSound(ts *testscript.TestScript, _ bool, args []string) {
	var sounds [2][]int16
	for i, name := range args {
		s, err := audio.ParseWav([]byte(ts.ReadFile(name)))
		ts.Check(err)
		sounds[i] = s
	}
	if good := soundPieces(sounds[0][audio.Rate/2:3*audio.Rate/2], sounds[1]); good < 3 {
		ts.Fatalf("of five pieces that were sent, %d are in %s", good, args[1])
	}
}

// soundPieces cuts what was sent into five and says how many of them were heard. A packet that a busy machine brought too late
// spoils one.
func soundPieces(sent, heard []int16) (good int) {
	n := len(sent) / 5
	for i := range 5 {
		if c, _ := audio.Match(sent[i*n:(i+1)*n], heard); c > 0.98 {
			good++
		}
	}
	return good
}

// poll asks the node in a directory until it is as wanted.
func poll(ts *testscript.TestScript, dir, what string, ok func(*node.Status) bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		res, err := node.Ask(ctx, ts.MkAbs(dir), node.Request{Do: "status"})
		if err == nil && ok(res.Status) {
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("the node in %s has not %s", dir, what)
		case <-time.After(20 * time.Millisecond): // a poll across processes
		}
	}
}

// waitPhones: "phones DIR N" waits until N phones are registered and others can find them.
func waitPhones(ts *testscript.TestScript, _ bool, args []string) {
	poll(ts, args[0], strings.Join(args[1:], " ")+" phones", func(s *node.Status) bool {
		n := 0
		for _, u := range s.Phones.Users {
			if u.Published {
				n += len(u.Phones)
			}
		}
		return strconv.Itoa(n) == args[1]
	})
}

// waitCalls: "calls DIR N" waits until N calls are in progress.
func waitCalls(ts *testscript.TestScript, _ bool, args []string) {
	poll(ts, args[0], args[1]+" calls", func(s *node.Status) bool { return strconv.Itoa(len(s.Calls)) == args[1] })
}
