package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/test/world"
)

const (
	// s3Latency is the time of a request to S3. With it, a drop that costs thousands of requests
	// can use up the time of the other messages in its batch.
	s3Latency = 15 * time.Millisecond

	victims     = 12
	patience    = 2 * time.Hour  // after this time, each victim must have a status
	hostileTime = 30 * time.Hour // after this time, a message that always fails is a dead letter
)

// hostile is a way to harm others with only s3:PutObject below inbox/.
type hostile struct {
	name string
	// before, if set, writes what earlier drops of the hostile person left in the bucket.
	before func(s *simulation)
	// drop drops the hostile files just before a random victim drops theirs.
	drop func(s *simulation)
}

var hostiles = []hostile{
	{"a key with hundreds of dots", nil, func(s *simulation) {
		for i := range 6 {
			// The first é is decomposed and the others are composed, so the key is neither in NFC nor in NFD.
			s.dropWrong("e\u0301." + strings.Repeat("\u00e9.", 230+s.plans.IntN(8)) + fmt.Sprint(i) + ".wav")
		}
	}},
	{"a file beside a folder with thousands of statuses", func(s *simulation) {
		for i := range 9000 + s.plans.IntN(1000) {
			s.w.Bucket.Set(fmt.Sprintf("status/ads/job%05d.json", i), []byte(`{"name":"ads/x","state":"succeeded","take":"20500101T000000Z-000000000000"}`))
		}
	}, func(s *simulation) { s.dropWrong("ads.job/x.txt") }},
	{"a thousand empty tagged voices", func(s *simulation) {
		for i := range 1000 {
			s.w.Bucket.Set(fmt.Sprintf("inbox/one/t.%05d.wav", i), nil)
		}
	}, func(s *simulation) {
		s.dropWrong("one/t.mp4")
		s.dropWrong("one/t.00000.wav")
	}},
	{"control characters beside a victim", func(s *simulation) {
		for i := range 200 {
			s.w.Bucket.Set(fmt.Sprintf("inbox/victims/0.%s%04d.wav", strings.Repeat("\x01", 980), i), nil)
		}
	}, func(s *simulation) { s.dropWrong(fmt.Sprintf("victims/0.%s0000.wav", strings.Repeat("\x01", 980))) }},
}

// dropWrong drops a file that is not valid media.
func (s *simulation) dropWrong(below string) { s.w.Drop(ledger.InboxPrefix+below, []byte("x")) }

// attackWorld lets one hostile person act among victims in a world that lasts for the given time.
// It reports each victim whose status is missing or still waiting after patience, and each dead
// letter about a victim at the end.
func attackWorld(seed, number uint64, lasts time.Duration) (tally, error) {
	s, err := newEmptySimulation(seed, number)
	if err != nil {
		return tally{}, err
	}
	person := hostiles[number%uint64(len(hostiles))]
	s.w.S3Latency, s.w.Batch = s3Latency, s.w.SubmitBatch()
	s.w.Before = func(world.Call) error { s.calls++; return nil }
	s.w.TimedOut = func(c world.Call) { s.faults["hostile: timeout of "+c.Function]++ }
	s.faults["hostile: "+person.name]++
	if person.before != nil {
		person.before(s)
	}
	// All drops happen at once or within some seconds, so batches hold messages of the hostile person
	// and of victims.
	at, spread := s.plans.IntN(victims), s.plans.IntN(2)*1000
	for i := range victims {
		if i == at {
			person.drop(s)
		}
		name := fmt.Sprint("victims/", i)
		s.jobs++
		s.w.Drop(ledger.InboxPrefix+name+".mp4", s.bodyOf(name+".mp4", ""))
		s.w.Pass(time.Duration(s.plans.IntN(spread+1)) * time.Millisecond)
		s.w.Drop(ledger.InboxPrefix+name+".wav", s.voice)
	}
	s.w.Pass(patience)
	for i := range victims {
		name := fmt.Sprint("victims/", i)
		if st := s.status(ledger.StatusKey(name)); st.State == "" || st.State == ledger.Waiting {
			s.found(noStatus, "beside %s (world %d), the status of %s is %q %s after %s", person.name, number, name, st.State, st.Code, patience)
		}
	}
	s.w.Pass(lasts - patience)
	for _, body := range s.w.Dead {
		if strings.Contains(body, "victims/") {
			s.found(noStatus, "beside %s (world %d), a message is a dead letter: %s", person.name, number, body)
		}
	}
	s.charges += s.w.RunComfy.Charges()
	s.passed = s.since()
	return s.tally, nil
}
