package world_test

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/test/world"
)

var (
	capDrops = flag.Int("caps.drops", 200, "number of drops in TestCapsHold")
	capSeed  = flag.Uint64("caps.seed", 1, "seed of TestCapsHold")
)

// capWorld is a world whose jobs have caps, with faults at random.
type capWorld struct {
	*world.World
	t    *testing.T
	dice *rand.Rand
	calm bool

	most    map[string]budget.Caps // the highest caps of each day
	claims  map[int]ledger.Record  // the claimed record of each invocation
	posted  []ledger.Record        // the record of each job that RunComfy accepted, in order
	names   []string
	deleted map[string]bool // names of which a file is deleted
	depth   int             // nested functions that run between two calls of another
	held    int64           // statuses that say that a cap holds a job
}

// TestCapsHold drops jobs at random, over days in which functions die before and after
// calls, responses are lost, and RunComfy responds in every way. The jobs of a day never
// exceed a cap. No job is lost. At the end, each book has the takes of its day that are
// charged, and otherwise only takes whose outcome is unknown.
func TestCapsHold(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes under the race detector")
	}
	const dropsOfAWorld = 50
	worlds := max(*capDrops/dropsOfAWorld, 1)
	var held atomic.Int64
	t.Cleanup(func() {
		if held.Load() == 0 {
			t.Error("no cap held a job")
		}
	})
	for i := range worlds {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			c := newCapWorld(t, *capSeed, uint64(i))
			c.live(dropsOfAWorld)
			c.check()
			held.Add(c.held)
		})
	}
}

func newCapWorld(t *testing.T, seed, number uint64) *capWorld {
	c := &capWorld{
		World: newWorld(t), t: t, dice: rand.New(rand.NewPCG(seed, number)),
		most: map[string]budget.Caps{}, claims: map[int]ledger.Record{}, deleted: map[string]bool{},
	}
	c.Batch = 1 + c.dice.IntN(10)
	c.Attempts = 1 + 2*c.dice.IntN(2)
	c.RunComfy.Script = func(string, map[string]any) runcomfytest.Script {
		return runcomfytest.Script{Queue: time.Duration(c.dice.Int64N(int64(time.Hour))), Run: time.Minute}
	}
	if c.dice.IntN(4) == 0 {
		c.RunComfy.Prices = map[string]runcomfytest.Price{"sync/sync/lipsync/v2/pro": {USD: 0.08, Unit: "second"}}
	}
	c.RunComfy.Fault = c.fault
	c.Before = func(call world.Call) error {
		switch {
		case c.calm:
		case c.chance(0.002):
			panic(world.Crash{})
		case c.chance(0.003) && call.Service == "s3":
			return world.Throttled
		case c.chance(0.003) && call.Op == "PutObject":
			return world.Conflicting
		case c.depth < 2 && (c.chance(0.01) || strings.HasPrefix(call.Key, budget.Prefix) && c.chance(0.3)):
			c.depth++
			c.Step(10 * time.Second) // another function runs between two calls of this one
			c.depth--
		}
		return nil
	}
	c.After = func(call world.Call) error {
		c.follow(call)
		switch {
		case c.calm:
		case c.chance(0.002):
			panic(world.Crash{})
		case c.chance(0.003) && call.Service == "s3":
			return world.ErrBroken
		}
		return nil
	}
	return c
}

func (c *capWorld) chance(p float64) bool { return c.dice.Float64() < p }

// set sets the caps.
func (c *capWorld) set(caps budget.Caps) {
	c.Caps = caps
	c.Restart()
	c.note()
}

// note notes the present caps as those of the present day.
func (c *capWorld) note() {
	day := budget.Day(c.Now())
	most, known := c.most[day]
	if !known {
		most = c.Caps
	}
	c.most[day] = budget.Caps{Jobs: max(most.Jobs, c.Caps.Jobs), Seconds: max(most.Seconds, c.Caps.Seconds), USD: max(most.USD, c.Caps.USD)}
}

// follow notes which record an invocation has claimed.
func (c *capWorld) follow(call world.Call) {
	if call.Function == "submit" && call.Op == "PutObject" && strings.HasPrefix(call.Key, "status/") {
		if c.Status(strings.TrimSuffix(strings.TrimPrefix(call.Key, "status/"), ".json")).Code == problem.OverBudget {
			c.held++
		}
	}
	if call.Function != "submit" || call.Op != "PutObject" || !strings.HasPrefix(call.Key, "jobs/") {
		return
	}
	var rec ledger.Record
	text, _ := c.Bucket.Object(call.Key)
	if err := json.Unmarshal(text, &rec); err != nil {
		c.t.Fatal(err)
	}
	if rec.State == ledger.Submitting {
		c.claims[call.Invocation] = rec
	}
}

// fault returns how a request to RunComfy fails, or nil. Before RunComfy accepts a job,
// it checks that the job fits into the caps of its day.
func (c *capWorld) fault(r *http.Request, _ []byte) *runcomfytest.Fault {
	call, _ := runcomfytest.CallOf(r)
	var fault *runcomfytest.Fault
	if !c.calm && c.chance(map[runcomfytest.Call]float64{runcomfytest.CallSubmit: 0.2, runcomfytest.CallCancel: 0.3, runcomfytest.CallModel: 0.3}[call]) {
		all := runcomfytest.Faults(call)
		fault = &all[c.dice.IntN(len(all))]
	}
	if call == runcomfytest.CallSubmit && (fault == nil || fault.Accept) {
		rec := c.claims[world.InvocationOf(r)]
		c.posted = append(c.posted, rec)
		day := budget.Day(rec.Times.Claimed)
		used := sum(c.charged(day))
		most := c.most[day]
		const rounding = 1e-6
		if most.Jobs > 0 && used.Jobs > most.Jobs || most.Seconds > 0 && used.Seconds > most.Seconds+rounding || most.USD > 0 && used.USD > most.USD+rounding {
			c.t.Errorf("%s: %+v are accepted, with the caps %+v", day, used, most)
		}
	}
	return fault
}

// charged returns the records of the jobs that were claimed on a day, that RunComfy has
// accepted, and that are not cancelled.
func (c *capWorld) charged(day string) []ledger.Record {
	cancelled, jobs := c.RunComfy.Cancelled(), c.RunComfy.Submitted()
	var charged []ledger.Record
	for i, rec := range c.posted {
		isCancelled := i < len(jobs) && slices.Contains(cancelled, jobs[i].RequestID) // the last one may not be submitted yet
		if budget.Day(rec.Times.Claimed) == day && !isCancelled {
			charged = append(charged, rec)
		}
	}
	return charged
}

func sum(recs []ledger.Record) budget.Amount {
	used := budget.Amount{Jobs: len(recs)}
	for _, rec := range recs {
		used.Seconds += rec.ExpectedSeconds
		if rec.EstimateUSD != nil {
			used.USD += *rec.EstimateUSD
		}
	}
	return used
}

// live drops jobs over three days, some of which are deleted again. Then the faults end,
// and the caps are raised or days pass.
func (c *capWorld) live(drops int) {
	clip, voice := media(c.t)
	const second, perDay = 2.531, 8
	c.set([]budget.Caps{
		{Jobs: perDay}, {Seconds: perDay * second}, {USD: perDay * second * 0.08},
		{Jobs: perDay + 2, Seconds: perDay * second, USD: perDay * second * 0.1},
	}[c.dice.IntN(4)])
	type action struct {
		at time.Duration
		do func()
	}
	var actions []action
	const days = 3
	for i := range drops {
		at := time.Duration(c.dice.IntN(days*4)) * 6 * time.Hour // several at the same time
		name := fmt.Sprintf("talk-%d", i)
		c.names = append(c.names, name)
		if c.chance(0.3) { // a model with another price
			actions = append(actions, action{at, func() {
				c.Drop("inbox/"+name+".job/v.mp4", clip)
				c.Drop("inbox/"+name+".job/a.wav", voice)
				c.Drop("inbox/"+name+".job/job.json", []byte(`{"model": "sync/react-1", "input": {"video_url": "v.mp4", "audio_url": "a.wav"}}`))
			}})
			continue
		}
		actions = append(actions, action{at, func() { c.Drop("inbox/"+name+".mp4", clip); c.Drop("inbox/"+name+".wav", voice) }})
		if c.chance(0.1) {
			c.deleted[name] = true
			actions = append(actions, action{at + time.Duration(c.dice.Int64N(int64(2*time.Hour))), func() { c.Delete("inbox/" + name + ".wav") }})
		}
	}
	for day := range 2*days + 6 { // the highest caps of each day
		at := time.Duration(day)*24*time.Hour + 12*time.Hour
		actions = append(actions, action{at, c.note})
	}
	raise := func() {
		c.set(budget.Caps{Jobs: 100 * c.Caps.Jobs, Seconds: 100 * c.Caps.Seconds, USD: 100 * c.Caps.USD})
	}
	actions = append(actions, action{days*24*time.Hour + time.Minute, func() {
		c.calm = true
		if c.chance(0.5) {
			raise()
		}
	}})
	slices.SortStableFunc(actions, func(a, b action) int { return cmp.Compare(a.at, b.at) })
	for _, a := range actions {
		c.Pass(a.at - c.Now().Sub(world.Begin))
		a.do()
	}
	c.Pass(3 * time.Hour)
}

// check checks the statuses and the books at the end.
func (c *capWorld) check() {
	if n := len(c.posted); n != c.RunComfy.Charges() {
		c.t.Errorf("%d POSTs, %d charges", n, c.RunComfy.Charges())
	}
	if len(c.Dead)+len(c.DeadDeletions) > 0 {
		c.t.Errorf("%d dead letters", len(c.Dead)+len(c.DeadDeletions))
	}
	for _, name := range c.names {
		st := c.Status(name)
		ended := st.State == ledger.Succeeded || st.State == ledger.Unknown || st.Code == problem.RefusedByRunComfy
		if !ended && !c.deleted[name] || st.State == ledger.Held {
			c.t.Errorf("%s is %s %s: %s", name, st.State, st.Code, st.Reason)
		}
	}
	for day := range c.most {
		c.checkBook(day)
	}
}

func (c *capWorld) checkBook(day string) {
	var book struct {
		Used  budget.Amount
		Takes []budget.Take
	}
	text, _ := c.Bucket.Object(budget.Key(day))
	charged := map[string]ledger.Record{}
	for _, rec := range c.charged(day) {
		charged[rec.Name+"/"+rec.Take] = rec
	}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &book); err != nil {
			c.t.Fatal(err)
		}
	}
	var used []ledger.Record
	for _, take := range book.Takes {
		id := take.Name + "/" + take.Take
		rec, ok := charged[id]
		if now, _ := c.Record(take.Name, take.Take); !ok {
			if now.State != ledger.Unknown {
				c.t.Errorf("%s: %s is %q and is not charged, but is in the book", day, id, now.State)
			}
			rec = now
		}
		if sum([]ledger.Record{rec}) != (budget.Amount{Jobs: 1, Seconds: take.Seconds, USD: take.USD}) {
			c.t.Errorf("%s: %+v in the book is not %+v", day, take, rec)
		}
		used = append(used, rec)
		delete(charged, id)
	}
	for id, rec := range charged {
		c.t.Errorf("%s: %s is charged, but is not in the book: %+v", day, id, rec)
	}
	if total := sum(used); total.Jobs != book.Used.Jobs || math.Abs(total.Seconds-book.Used.Seconds)+math.Abs(total.USD-book.Used.USD) > 1e-6 {
		c.t.Errorf("%s: the book says %+v, its takes are %+v", day, book.Used, total)
	}
}
