package phone

import (
	"slices"

	"p2psip/interwork/phone/audio"
)

// The buffer that evens out the network's jitter, in samples. It begins with enough for a home network's Wi-Fi, grows when
// sound comes too late for it, and gives delay back by a cut when more is waiting than it ever needs.
const (
	playTarget = 3 * audio.FrameLength  // kept back at the beginning: 60 ms
	playGrow   = 7 * audio.FrameLength  // by which that may grow: to 200 ms
	playMost   = 15 * audio.FrameLength // what may wait, 300 ms; more is cut down to the target
	playJump   = audio.Rate             // a timestamp further away than that is a new beginning
	playChunks = 64                     // packets kept
)

// playout brings packets into the order and to the time in which they are played. Timestamps are extended to 64 bits.
type playout struct {
	started bool
	next    int64 // of the next sample to be played
	grown   int64 // silence put in because nothing had come in time
	queue   []chunk

	late    int   // packets that came after their time was over
	missing int64 // samples that were not there when they were due, or cut out
	frames  int   // pulled since the beginning
	waiting int64 // sum of the samples waiting at each of them
}

type chunk struct {
	at      int64
	samples []int16
}

func (c chunk) end() int64 { return c.at + int64(len(c.samples)) }

// reset forgets what waits: another source speaks.
func (p *playout) reset() { p.started, p.queue, p.grown = false, nil, 0 }

// put takes a packet's sound in; it keeps samples. A packet must not come twice.
func (p *playout) put(timestamp uint32, samples []int16) {
	if len(samples) == 0 {
		return
	}
	at := p.next + int64(int32(timestamp-uint32(p.next)))
	if !p.started || at-p.next > playJump || p.next-at > playJump {
		p.reset()
		p.started, p.next = true, at-playTarget
	}
	c := chunk{at, samples}
	if c.end() <= p.next {
		p.late++
		return
	}
	i, _ := slices.BinarySearchFunc(p.queue, at, func(c chunk, at int64) int { return int(c.at - at) })
	p.queue = slices.Insert(p.queue, i, c)
	if len(p.queue) > playChunks {
		p.queue = slices.Delete(p.queue, 0, len(p.queue)-playChunks)
	}
}

// depth is how much waits, from the next sample to the last.
func (p *playout) depth() int64 {
	if len(p.queue) == 0 {
		return 0
	}
	return max(0, p.queue[len(p.queue)-1].end()-p.next)
}

// pull appends the next n samples to dst; silence stands for what is not there.
func (p *playout) pull(dst []int16, n int) []int16 {
	from := len(dst)
	dst = appendSilence(dst, n)
	if !p.started {
		return dst
	}
	depth := p.depth()
	p.frames++
	p.waiting += depth
	if depth > playMost {
		p.missing += depth - playTarget
		p.next += depth - playTarget
	} else if depth == 0 && p.grown < playGrow {
		p.grown += int64(n)
		p.missing += int64(n)
		return dst // time stands still: what comes now is not too late any more
	}
	end, got := p.next+int64(n), 0
	for len(p.queue) > 0 && p.queue[0].at < end {
		c := p.queue[0]
		if c.end() > p.next {
			skip := max(0, p.next-c.at)
			got += copy(dst[from+int(max(0, c.at-p.next)):], c.samples[skip:])
		}
		if c.end() > end {
			break // its rest is for the next pull
		}
		p.queue = p.queue[1:]
	}
	p.missing += int64(max(0, n-got))
	p.next = end
	return dst
}

// delay is what waiting has added on average, in samples.
func (p *playout) delay() int64 {
	if p.frames == 0 {
		return 0
	}
	return p.waiting / int64(p.frames)
}
